package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strings"

	"modelpress/calib"
)

// cut returns windows of length ids: each row cut, what is left over dropped. count bounds their number, 0 for all.
func cut(rows [][]int32, length, count int) ([][]int32, error) {
	var all [][]int32
	for _, row := range rows {
		for len(row) >= length && (count == 0 || len(all) < count) {
			all, row = append(all, row[:length]), row[length:]
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no row has %d ids", length)
	}
	return all, nil
}

// writeWindows writes the windows twice: as compress eval reads them, a .npy file, and as logits does, ids alone.
func writeWindows(windows [][]int32, npy, raw string) error {
	var ids bytes.Buffer
	for _, w := range windows {
		if err := binary.Write(&ids, binary.LittleEndian, w); err != nil {
			return err
		}
	}
	if err := os.WriteFile(raw, ids.Bytes(), 0o644); err != nil {
		return err
	}
	// numpy.lib.format, version 1.0: the header ends with a newline at a multiple of 64 bytes.
	dict := fmt.Sprintf("{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }", len(windows), len(windows[0]))
	dict += strings.Repeat(" ", 63-(10+len(dict))%64) + "\n"
	head := append([]byte("\x93NUMPY\x01\x00"), byte(len(dict)), byte(len(dict)>>8))
	return os.WriteFile(npy, append(append(head, dict...), ids.Bytes()...), 0o644)
}

// readWindows reads the ids of a file of any kind that compress takes.
func readWindows(path string, length, count int) ([][]int32, error) {
	rows, err := calib.ReadIDs(path)
	if err != nil {
		return nil, err
	}
	if length == 0 {
		length = len(rows[0])
	}
	return cut(rows, length, count)
}

// readLogits reads a .npy file of 32-bit floats, whatever its shape.
func readLogits(path string) ([]float32, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) < 10 || string(data[:7]) != "\x93NUMPY\x01" {
		return nil, fmt.Errorf("%s: not a .npy file of version 1", path)
	}
	head := 10 + int(data[8]) + int(data[9])<<8
	if head > len(data) || !bytes.Contains(data[10:head], []byte("'<f4'")) || !bytes.Contains(data[10:head], []byte("'fortran_order': False")) {
		return nil, fmt.Errorf("%s: not 32-bit floats in C order", path)
	}
	return floats(data[head:]), nil
}

func floats(data []byte) []float32 {
	v := make([]float32, len(data)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return v
}

// farthest is the largest difference of two lists of logits, NaN where one is.
func farthest(a, b []float32) (float64, error) {
	if len(a) != len(b) {
		return 0, fmt.Errorf("%d logits, the reference has %d", len(a), len(b))
	}
	var most float64
	for i, v := range a {
		d := math.Abs(float64(v) - float64(b[i]))
		if d > most || math.IsNaN(d) {
			most = d
		}
	}
	return most, nil
}
