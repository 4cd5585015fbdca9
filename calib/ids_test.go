package calib

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"modelpress/formats"
)

// npy builds a .npy file of the given version with a header text and data.
func npy(major byte, dict string, data any, order binary.ByteOrder) []byte {
	var b bytes.Buffer
	b.WriteString("\x93NUMPY")
	b.WriteByte(major)
	b.WriteByte(0)
	dict += "   \n"
	if major == 1 {
		binary.Write(&b, binary.LittleEndian, uint16(len(dict)))
	} else {
		binary.Write(&b, binary.LittleEndian, uint32(len(dict)))
	}
	b.WriteString(dict)
	if data != nil {
		binary.Write(&b, order, data)
	}
	return b.Bytes()
}

func dict(descr, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape)
}

func TestReadNpy(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	for _, c := range []struct {
		name string
		data []byte
		want [][]int32
	}{
		{"u2.npy", npy(1, dict("<u2", "(3,)"), []uint16{1, 65535, 3}, le), [][]int32{{1, 65535, 3}}},
		{"i2.npy", npy(1, dict("<i2", "(2, 2)"), []int16{1, 2, 3, 4}, le), [][]int32{{1, 2}, {3, 4}}},
		{"i4.npy", npy(2, dict("<i4", "(1, 2)"), []int32{7, 1 << 30}, le), [][]int32{{7, 1 << 30}}},
		{"u4.npy", npy(3, dict(">u4", "(2,)"), []uint32{7, 9}, be), [][]int32{{7, 9}}},
		{"i8.npy", npy(1, dict("<i8", "(2,1)"), []int64{7, 8}, le), [][]int32{{7}, {8}}},
		{"order.npy", npy(1, "{'shape': (1,), 'fortran_order': True, 'descr': '<u2'}", []uint16{5}, le), [][]int32{{5}}},
	} {
		got, err := ReadIDs(writeFile(t, c.name, c.data))
		if err != nil || !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s: %v %v", c.name, got, err)
		}
	}
	long := make([]uint16, 3*idChunk/2)
	for i := range long {
		long[i] = uint16(i)
	}
	got, err := ReadIDs(writeFile(t, "long.npy", npy(1, dict("<u2", fmt.Sprintf("(3, %d)", idChunk/2)), long, le)))
	if err != nil || len(got) != 3 || got[2][5] != int32((idChunk+5)%65536) {
		t.Error(err)
	}
}

func TestReadNpyHostile(t *testing.T) {
	le := binary.LittleEndian
	ok := npy(1, dict("<u2", "(2,)"), []uint16{1, 2}, le)
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"magic", "does not start like", []byte("not numpy at all")},
		{"tiny", "does not start like", ok[:5]},
		{"cut", "ends inside its header", ok[:40]},
		{"cutlen", "ends inside its header", ok[:9]},
		{"version", "version 9", npy(9, dict("<u2", "(1,)"), []uint16{1}, le)},
		{"bigheader", "longer than", append([]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), make([]byte, 100)...)},
		{"data", "bytes long, its header says", ok[:len(ok)-1]},
		{"trailing", "bytes long, its header says", append(bytes.Clone(ok), 0)},
		{"huge", "more than", npy(1, dict("<u2", "(4294967296, 4294967296)"), nil, le)},
		{"overflow", "value out of range", npy(1, dict("<u2", "(99999999999999999999,)"), nil, le)},
		{"zero", "holds no ids", npy(1, dict("<u2", "(0, 4)"), nil, le)},
		{"scalar", "one or two dimensions", npy(1, dict("<u2", "()"), []uint16{1}, le)},
		{"cube", "one or two dimensions", npy(1, dict("<u2", "(1, 1, 1)"), []uint16{1}, le)},
		{"float", "is not an integer", npy(1, dict("<f4", "(1,)"), []float32{1}, le)},
		{"object", "is not an integer", npy(1, dict("|O", "(1,)"), []uint16{1}, le)},
		{"negative", "row 0, column 1 is -1", npy(1, dict("<i2", "(2,)"), []int16{1, -1}, le)},
		{"wide", "row 1, column 0 is 2147483648", npy(1, dict("<i8", "(2,1)"), []int64{1, 1 << 31}, le)},
		{"widest", "row 0, column 0", npy(1, dict("<u8", "(1,)"), []uint64{1 << 63}, le)},
		{"fortran", "Fortran order", npy(1, "{'descr': '<u2', 'fortran_order': True, 'shape': (1, 2)}", []uint16{1, 2}, le)},
		{"order", "neither True nor False", npy(1, "{'descr': '<u2', 'fortran_order': (1), 'shape': (1,)}", []uint16{1}, le)},
		{"twice", "repeats a key", npy(1, "{'descr': '<u2', 'descr': '<u2', 'shape': (1,)}", []uint16{1}, le)},
		{"code", "not a dictionary", npy(1, "{'descr': eval('1'), 'fortran_order': False, 'shape': (1,)}", []uint16{1}, le)},
		{"deep", "not a dictionary", npy(1, strings.Repeat("(", 5000), nil, le)},
	} {
		_, err := ReadIDs(writeFile(t, c.name+".npy", c.data))
		var fe *formats.Error
		if !errors.As(err, &fe) || fe.File != c.name+".npy" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzNpyHeader(f *testing.F) {
	f.Add(npy(1, dict("<u2", "(2,)"), []uint16{1, 2}, binary.LittleEndian))
	f.Add(npy(2, dict(">i8", "(2, 3)"), nil, binary.LittleEndian))
	f.Add([]byte("\x93NUMPY\x01\x00\x10\x00{'descr': '<u2'"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readNpyHeader(bytes.NewReader(data))
		if err != nil {
			return
		}
		if h.size != 2 && h.size != 4 && h.size != 8 {
			t.Fatalf("element size %d", h.size)
		}
		if n, c, err := idShape(h.shape); err == nil && (n <= 0 || c <= 0 || n*c > maxIDs) {
			t.Fatalf("shape %v passes", h.shape)
		}
	})
}

// safetensorsFile builds a file with one tensor.
func safetensorsFile(name, dtype, shape string, data []byte) []byte {
	head := fmt.Sprintf(`{"%s":{"dtype":"%s","shape":%s,"data_offsets":[0,%d]}}`, name, dtype, shape, len(data))
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(head)))
	return append(append(b, head...), data...)
}

func TestReadSafetensorsIDs(t *testing.T) {
	le := binary.LittleEndian
	i64 := le.AppendUint64(le.AppendUint64(nil, 5), 1<<31-1)
	for _, c := range []struct {
		dtype, shape string
		data         []byte
		want         [][]int32
	}{
		{"I64", "[2,1]", i64, [][]int32{{5}, {1<<31 - 1}}},
		{"U64", "[2]", i64, [][]int32{{5, 1<<31 - 1}}},
		{"U16", "[1,2]", []byte{1, 0, 255, 255}, [][]int32{{1, 65535}}},
		{"I16", "[1,2]", []byte{1, 0, 255, 127}, [][]int32{{1, 32767}}},
		{"U8", "[3]", []byte{1, 2, 255}, [][]int32{{1, 2, 255}}},
		{"I8", "[1,1]", []byte{127}, [][]int32{{127}}},
		{"I32", "[1]", []byte{1, 1, 0, 0}, [][]int32{{257}}},
		{"U32", "[1]", []byte{1, 1, 0, 0}, [][]int32{{257}}},
	} {
		got, err := ReadIDs(writeFile(t, "a.safetensors", safetensorsFile("ids", c.dtype, c.shape, c.data)))
		if err != nil || !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s %s: %v %v", c.dtype, c.shape, got, err)
		}
	}
	for _, c := range []struct {
		file []byte
		want string
	}{
		{safetensorsFile("x", "I64", "[2]", i64), `holds no tensor "ids"`},
		{safetensorsFile("ids", "F32", "[4]", i64), "dtype F32 is not an integer"},
		{safetensorsFile("ids", "I8", "[1]", []byte{255}), "row 0, column 0 is -1"},
		{safetensorsFile("ids", "U32", "[1]", []byte{255, 255, 255, 255}), "row 0, column 0 is 4294967295"},
		{safetensorsFile("ids", "U8", "[1,1,1]", []byte{1}), "one or two dimensions"},
		{[]byte("short"), "a.safetensors"},
	} {
		_, err := ReadIDs(writeFile(t, "a.safetensors", c.file))
		var fe *formats.Error
		if !errors.As(err, &fe) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
