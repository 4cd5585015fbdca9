package gguf

// Uint8 makes a value.
func Uint8(v uint8) Value { return Value{Kind: KindUint8, Data: v} }

// Int8 makes a value.
func Int8(v int8) Value { return Value{Kind: KindInt8, Data: v} }

// Uint16 makes a value.
func Uint16(v uint16) Value { return Value{Kind: KindUint16, Data: v} }

// Int16 makes a value.
func Int16(v int16) Value { return Value{Kind: KindInt16, Data: v} }

// Uint32 makes a value.
func Uint32(v uint32) Value { return Value{Kind: KindUint32, Data: v} }

// Int32 makes a value.
func Int32(v int32) Value { return Value{Kind: KindInt32, Data: v} }

// Uint64 makes a value.
func Uint64(v uint64) Value { return Value{Kind: KindUint64, Data: v} }

// Int64 makes a value.
func Int64(v int64) Value { return Value{Kind: KindInt64, Data: v} }

// Float32 makes a value.
func Float32(v float32) Value { return Value{Kind: KindFloat32, Data: v} }

// Float64 makes a value.
func Float64(v float64) Value { return Value{Kind: KindFloat64, Data: v} }

// Bool makes a value.
func Bool(v bool) Value { return Value{Kind: KindBool, Data: v} }

// String makes a value.
func String(v string) Value { return Value{Kind: KindString, Data: v} }

// Uint8s makes an array.
func Uint8s(v []uint8) Value { return array(KindUint8, v) }

// Int8s makes an array.
func Int8s(v []int8) Value { return array(KindInt8, v) }

// Uint16s makes an array.
func Uint16s(v []uint16) Value { return array(KindUint16, v) }

// Int16s makes an array.
func Int16s(v []int16) Value { return array(KindInt16, v) }

// Uint32s makes an array.
func Uint32s(v []uint32) Value { return array(KindUint32, v) }

// Int32s makes an array.
func Int32s(v []int32) Value { return array(KindInt32, v) }

// Uint64s makes an array.
func Uint64s(v []uint64) Value { return array(KindUint64, v) }

// Int64s makes an array.
func Int64s(v []int64) Value { return array(KindInt64, v) }

// Float32s makes an array.
func Float32s(v []float32) Value { return array(KindFloat32, v) }

// Float64s makes an array.
func Float64s(v []float64) Value { return array(KindFloat64, v) }

// Bools makes an array.
func Bools(v []bool) Value { return array(KindBool, v) }

// Strings makes an array.
func Strings(v []string) Value { return array(KindString, v) }

func array(elem Kind, data any) Value { return Value{Kind: KindArray, Elem: elem, Data: data} }
