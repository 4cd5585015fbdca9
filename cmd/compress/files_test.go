package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"modelpress/internal/testmodel"
)

// npy returns rows of equal length as a .npy file of int32, format version 1.
func npy(rows [][]int32) []byte {
	header := fmt.Sprintf("{'descr': '<i4', 'fortran_order': False, 'shape': (%d, %d), }", len(rows), len(rows[0]))
	const prefix = 10 // magic, version, header length
	header += strings.Repeat(" ", 63-(prefix+len(header))%64) + "\n"
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
	b = append(b, header...)
	for _, r := range rows {
		for _, v := range r {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	}
	return b
}

// writeModel writes a checkpoint into a new directory.
func writeModel(dir string, m *testmodel.Model, shardBytes int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return m.Write(dir, shardBytes)
}
