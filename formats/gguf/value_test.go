package gguf

import (
	"bytes"
	"math"
	"reflect"
	"testing"
)

func TestAccessors(t *testing.T) {
	for _, c := range []struct {
		v     Value
		uint  any // the results, nil where ok is false
		int   any
		float any
		ints  any
	}{
		{Uint8(255), uint64(255), int64(255), nil, nil},
		{Int8(-1), nil, int64(-1), nil, nil},
		{Int8(1), uint64(1), int64(1), nil, nil},
		{Uint16(65535), uint64(65535), int64(65535), nil, nil},
		{Int16(-2), nil, int64(-2), nil, nil},
		{Uint32(math.MaxUint32), uint64(math.MaxUint32), int64(math.MaxUint32), nil, nil},
		{Int32(-3), nil, int64(-3), nil, nil},
		{Uint64(math.MaxUint64), uint64(math.MaxUint64), nil, nil, nil},
		{Uint64(5), uint64(5), int64(5), nil, nil},
		{Int64(math.MinInt64), nil, int64(math.MinInt64), nil, nil},
		{Float32(0.5), nil, nil, 0.5, nil},
		{Float64(0.1), nil, nil, 0.1, nil},
		{Bool(true), nil, nil, nil, nil},
		{String("1"), nil, nil, nil, nil},
		{Uint8s([]uint8{1, 255}), nil, nil, nil, []int64{1, 255}},
		{Int8s([]int8{-128}), nil, nil, nil, []int64{-128}},
		{Uint16s([]uint16{65535}), nil, nil, nil, []int64{65535}},
		{Int16s([]int16{-2, 2}), nil, nil, nil, []int64{-2, 2}},
		{Uint32s([]uint32{math.MaxUint32}), nil, nil, nil, []int64{math.MaxUint32}},
		{Int32s([]int32{-7}), nil, nil, nil, []int64{-7}},
		{Uint64s([]uint64{8}), nil, nil, nil, []int64{8}},
		{Uint64s([]uint64{8, 1 << 63}), nil, nil, nil, nil},
		{Int64s([]int64{-9}), nil, nil, nil, []int64{-9}},
		{Float32s([]float32{1}), nil, nil, nil, nil},
		{Value{}, nil, nil, nil, nil},
	} {
		u, uok := c.v.Uint()
		i, iok := c.v.Int()
		f, fok := c.v.Float()
		s, sok := c.v.Ints()
		for _, r := range []struct {
			name      string
			got, want any
			ok        bool
		}{{"Uint", u, c.uint, uok}, {"Int", i, c.int, iok}, {"Float", f, c.float, fok}, {"Ints", s, c.ints, sok}} {
			if r.ok != (r.want != nil) || r.ok && !reflect.DeepEqual(r.got, r.want) {
				t.Errorf("%v: %s gives %v, %v", c.v, r.name, r.got, r.ok)
			}
		}
	}
}

func TestAccessorsOfOtherKinds(t *testing.T) {
	if v, ok := Bool(true).Bool(); !v || !ok {
		t.Error("Bool")
	}
	if _, ok := Uint8(1).Bool(); ok {
		t.Error("Bool of a number")
	}
	if v, ok := String("a").Str(); v != "a" || !ok {
		t.Error("Str")
	}
	if _, ok := Strings([]string{"a"}).Str(); ok {
		t.Error("Str of an array")
	}
	if v, ok := Strings([]string{"a"}).Strs(); !ok || !reflect.DeepEqual(v, []string{"a"}) {
		t.Error("Strs")
	}
	if v, ok := Bools([]bool{true}).Bools(); !ok || !reflect.DeepEqual(v, []bool{true}) {
		t.Error("Bools")
	}
	if v, ok := Float32s([]float32{0.5}).Floats(); !ok || !reflect.DeepEqual(v, []float64{0.5}) {
		t.Error("Floats of float32")
	}
	if v, ok := Float64s([]float64{0.1}).Floats(); !ok || !reflect.DeepEqual(v, []float64{0.1}) {
		t.Error("Floats of float64")
	}
	if _, ok := Int32s([]int32{1}).Floats(); ok {
		t.Error("Floats of integers")
	}
	for _, e := range goldenKV() {
		want := 0
		if e.Value.Kind == KindArray {
			want = reflect.ValueOf(e.Value.Data).Len()
		}
		if e.Value.Len() != want {
			t.Errorf("%s: length %d", e.Key, e.Value.Len())
		}
	}
}

func TestEqual(t *testing.T) {
	kv := goldenKV()
	for i, a := range kv {
		for j, b := range kv {
			if Equal(a.Value, b.Value) != (i == j) {
				t.Errorf("%s and %s", a.Key, b.Key)
			}
		}
	}
	nan := Float32(float32(math.NaN()))
	zero, negative := Float64(0), Float64(math.Copysign(0, -1))
	if !Equal(nan, nan) || Equal(zero, negative) {
		t.Error("not by bits")
	}
	if Equal(Strings(nil), Int32s(nil)) || !Equal(Strings(nil), Strings([]string{})) {
		t.Error("empty arrays")
	}
	if Equal(Value{}, Value{}) || Equal(Value{Kind: 99}, Value{Kind: 99}) {
		t.Error("invalid values")
	}
}

// TestInvalidValues: what is no value is refused and not written as something else.
func TestInvalidValues(t *testing.T) {
	for _, v := range []Value{
		{}, {Kind: KindUint8, Data: 1}, {Kind: KindUint8, Data: uint16(1)}, {Kind: KindUint8, Data: []uint8{1}}, {Kind: KindString, Data: []byte("a")},
		{Kind: 13, Data: uint8(1)}, {Kind: KindArray, Elem: KindArray, Data: [][]int32{{1}}}, {Kind: KindArray, Elem: KindInt32, Data: int32(1)},
		{Kind: KindArray, Elem: KindInt32, Data: []int64{1}}, {Kind: KindArray, Elem: KindString}, {Kind: KindArray, Elem: 13, Data: []int32{}},
		{Kind: KindInt32, Elem: KindInt32, Data: []int32{1}},
	} {
		if _, err := Header([]KV{{"key", v}}, nil, 32); err == nil || !bytes.Contains([]byte(err.Error()), []byte(`key "key"`)) {
			t.Errorf("%#v: %v", v, err)
		}
	}
}

func TestKindNames(t *testing.T) {
	for k, want := range map[Kind]string{KindUint8: "uint8", KindFloat64: "float64", KindArray: "array", KindString: "string", 13: "kind 13", math.MaxUint32: "kind 4294967295"} {
		if k.String() != want {
			t.Errorf("%s, want %s", k, want)
		}
	}
}
