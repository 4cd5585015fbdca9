package calib

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"modelpress/formats"
	"modelpress/formats/safetensors"
)

// maxIDs bounds the token ids of one file (1 GiB as int32).
const maxIDs = 1 << 28

// idChunk is how many ids are converted at a time.
const idChunk = 1 << 18

// idsTensor is the tensor of a .safetensors file that holds token ids.
const idsTensor = "ids"

// IsIDs reports whether a file name is one that [ReadIDs] reads.
func IsIDs(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".npy", ".safetensors":
		return true
	}
	return false
}

// ReadIDs reads token ids made elsewhere: a .npy file of integers (format versions 1 to 3) or the tensor "ids" of a
// .safetensors file, one or two dimensions. A vector is one row. Values outside 0..2^31-1 are an error; whether they lie
// in a vocabulary is checked by [BuildSet] and by the model.
func ReadIDs(path string) ([][]int32, error) {
	base := filepath.Base(path)
	if strings.ToLower(filepath.Ext(path)) == ".safetensors" {
		return readSafetensorsIDs(path, base)
	}
	f, fi, err := openRegular(path)
	if err != nil {
		return nil, formats.Errorf(base, "", "%w", err)
	}
	defer f.Close()
	rows, err := readNpy(f, fi.Size())
	if err != nil {
		return nil, formats.Errorf(base, "", "%w", err)
	}
	return rows, nil
}

// readNpy reads the ids of a .npy file, whose size must be exactly what its header says.
func readNpy(f io.Reader, fileSize int64) ([][]int32, error) {
	h, err := readNpyHeader(f)
	if err != nil {
		return nil, err
	}
	n, t, err := idShape(h.shape)
	if err != nil {
		return nil, err
	}
	if want := h.data + n*t*int64(h.size); fileSize != want {
		return nil, fmt.Errorf("is %d bytes long, its header says %d", fileSize, want)
	}
	read := func(p []byte, off int64) error { _, err := io.ReadFull(f, p); return err }
	return readRows(read, idReader(h.kind, h.size, h.order), h.size, n, t)
}

// readSafetensorsIDs reads the tensor "ids" of any integer type.
func readSafetensorsIDs(path, base string) ([][]int32, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, ok := f.Lookup(idsTensor)
	if !ok {
		return nil, formats.Errorf(base, "", "holds no tensor %q", idsTensor)
	}
	kind, ok := intKind(info.DType)
	if !ok {
		return nil, formats.Errorf(base, idsTensor, "dtype %s is not an integer", info.DType)
	}
	n, t, err := idShape(info.Shape)
	if err != nil {
		return nil, formats.Errorf(base, idsTensor, "%w", err)
	}
	size := info.DType.Size()
	read := func(p []byte, off int64) error { return f.ReadAt(idsTensor, p, off) }
	rows, err := readRows(read, idReader(kind, size, binary.LittleEndian), size, n, t)
	if err != nil {
		return nil, formats.Errorf(base, idsTensor, "%w", err)
	}
	return rows, nil
}

// intKind returns 'i' or 'u' for the integer types.
func intKind(d formats.DType) (byte, bool) {
	switch d {
	case formats.I8, formats.I16, formats.I32, formats.I64:
		return 'i', true
	case formats.U8, formats.U16, formats.U32, formats.U64:
		return 'u', true
	}
	return 0, false
}

// idShape returns the rows and columns of a shape of one or two dimensions with at most maxIDs elements.
func idShape(shape []int64) (n, t int64, err error) {
	switch len(shape) {
	case 1:
		n, t = 1, shape[0]
	case 2:
		n, t = shape[0], shape[1]
	default:
		return 0, 0, fmt.Errorf("shape %v: token ids have one or two dimensions", shape)
	}
	if n <= 0 || t <= 0 {
		return 0, 0, fmt.Errorf("shape %v holds no ids", shape)
	}
	if n > maxIDs || t > maxIDs/n {
		return 0, 0, fmt.Errorf("shape %v: more than %d ids", shape, maxIDs)
	}
	return n, t, nil
}

// readRows converts n rows of t integers of the given size, a bounded number at a time.
func readRows(read func(p []byte, off int64) error, id func(p []byte, i int) (int64, bool), size int, n, t int64) ([][]int32, error) {
	flat := make([]int32, n*t)
	buf := make([]byte, min(int64(idChunk), n*t)*int64(size))
	for done := int64(0); done < n*t; {
		c := min(int64(idChunk), n*t-done)
		p := buf[:c*int64(size)]
		if err := read(p, done*int64(size)); err != nil {
			return nil, fmt.Errorf("reading ids: %w", err)
		}
		for i := range int(c) {
			v, ok := id(p, i)
			if !ok {
				at := done + int64(i)
				return nil, fmt.Errorf("row %d, column %d is %d, not a token id", at/t, at%t, v)
			}
			flat[done+int64(i)] = int32(v)
		}
		done += c
	}
	rows := make([][]int32, n)
	for i := range rows {
		rows[i] = flat[int64(i)*t : int64(i+1)*t : int64(i+1)*t]
	}
	return rows, nil
}

func rowName(name string, i int) string { return fmt.Sprintf("%s row %d", name, i) }

// OpenDocs returns the documents of an input of any kind: token ids ([ReadIDs]) by the ending of the name, else text
// ([OpenText]).
func OpenDocs(path string, opt TextOptions) (Docs, error) {
	if IsIDs(path) {
		rows, err := ReadIDs(path)
		if err != nil {
			return nil, err
		}
		return RowDocs(filepath.Base(path), rows), nil
	}
	t, err := OpenText(path, opt)
	if err != nil {
		return nil, err
	}
	return t.Docs(), nil
}
