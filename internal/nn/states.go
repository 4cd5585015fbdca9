package nn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
)

// States keeps one hidden state [T, D] of f32 per window: the boundary between two blocks. Windows are kept in memory as
// long as they fit a limit, in their order; the others live in a temporary file.
type States struct {
	d       int
	lengths []int
	memory  [][]float32 // nil for windows in the file
	offset  []int64     // in the file, by window
	file    *os.File
	name    string // of the file while it stands in its directory
	raw     []byte
	view    []float32 // of a window in the file
}

// NewStates returns zeroed states for windows of the given lengths. Up to memLimit bytes are held in memory, all of them
// where it is 0; the rest goes to a file in dir ("" for the system's temporary directory), which must exist. Close gives
// the file back. Where the system lets it, the file has no name from the start, so that a killed process leaves none.
func NewStates(dir string, lengths []int, d int, memLimit int64) (*States, error) {
	s := &States{d: d, lengths: lengths, memory: make([][]float32, len(lengths)), offset: make([]int64, len(lengths))}
	if memLimit == 0 {
		memLimit = math.MaxInt64
	}
	used, size := int64(0), int64(0)
	for i, t := range lengths {
		n, err := product(t, d)
		if err != nil {
			return nil, err
		}
		bytes := 4 * int64(n)
		if size == 0 && bytes <= memLimit-used {
			used += bytes
			s.memory[i] = make([]float32, n)
			continue
		}
		if size > math.MaxInt64-bytes {
			return nil, fmt.Errorf("nn: states of %d windows are too large", len(lengths))
		}
		s.offset[i] = size
		size += bytes
	}
	if size == 0 {
		return s, nil
	}
	f, err := os.CreateTemp(dir, "states-*.f32")
	if err != nil {
		return nil, fmt.Errorf("nn: spill states: %w", err)
	}
	s.file, s.name = f, f.Name()
	if os.Remove(s.name) == nil {
		s.name = ""
	}
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("nn: spill states: %w", err), s.Close())
	}
	return s, nil
}

// Spilled reports whether some windows are kept in a file.
func (s *States) Spilled() bool { return s.file != nil }

func (s *States) check(i, n int) {
	if n != s.lengths[i]*s.d {
		panic(fmt.Sprintf("nn: %d values for window %d of %d positions of width %d", n, i, s.lengths[i], s.d))
	}
}

// Get copies the state of window i to dst, [T, D].
func (s *States) Get(i int, dst []float32) error {
	s.check(i, len(dst))
	if s.memory[i] != nil {
		copy(dst, s.memory[i])
		return nil
	}
	for at := 0; at < len(dst); at += len(s.buffer()) / 4 {
		part := dst[at:min(len(dst), at+len(s.buffer())/4)]
		p := s.buffer()[:4*len(part)]
		if _, err := s.file.ReadAt(p, s.offset[i]+4*int64(at)); err != nil {
			return fmt.Errorf("nn: read spilled states: %w", err)
		}
		for j := range part {
			part[j] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:]))
		}
	}
	return nil
}

// View returns the state of window i, [T, D], which is not to be changed and valid until the next Put or View.
func (s *States) View(i int) ([]float32, error) {
	if s.memory[i] != nil {
		return s.memory[i], nil
	}
	if n := s.lengths[i] * s.d; len(s.view) < n {
		s.view = make([]float32, n)
	}
	v := s.view[:s.lengths[i]*s.d]
	return v, s.Get(i, v)
}

// Width returns the number of values of a position.
func (s *States) Width() int { return s.d }

// Put copies src, [T, D], to the state of window i.
func (s *States) Put(i int, src []float32) error {
	s.check(i, len(src))
	if s.memory[i] != nil {
		copy(s.memory[i], src)
		return nil
	}
	for at := 0; at < len(src); at += len(s.buffer()) / 4 {
		part := src[at:min(len(src), at+len(s.buffer())/4)]
		p := s.buffer()[:4*len(part)]
		for j, v := range part {
			binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(v))
		}
		if _, err := s.file.WriteAt(p, s.offset[i]+4*int64(at)); err != nil {
			return fmt.Errorf("nn: spill states: %w", err)
		}
	}
	return nil
}

func (s *States) buffer() []byte {
	if s.raw == nil {
		s.raw = make([]byte, chunkBytes)
	}
	return s.raw
}

// Close gives the memory back and removes the file.
func (s *States) Close() error {
	s.memory = nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.name != "" {
		err = errors.Join(err, os.Remove(s.name))
	}
	s.file = nil
	return err
}
