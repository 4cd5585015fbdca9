package nn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
)

// States keeps one hidden state [T, D] of f32 per window: the boundary between two blocks. Windows are kept in memory as
// long as they fit a limit, in their order; the others live in a temporary file. On a device with a memory of its own they lie there
// first, see [States.OnDevice].
type States struct {
	d       int
	lengths []int
	dir     string
	limit   int64 // bytes of memory
	view    []float32

	lossy  bool       // what has no room on the device is lost
	mu     sync.Mutex // guards what follows: another model may need the device memory
	used   int64      // bytes of memory
	memory [][]float32
	offset []int64 // in the file, by window; -1 for none
	file   *os.File
	size   int64  // of the file
	name   string // of the file while it stands in its directory
	raw    []byte
	part   []float32
	device deviceStates
}

// NewStates returns zeroed states for windows of the given lengths. Up to memLimit bytes are held in memory, whole windows, all of them
// where it is 0; the rest goes to a file in dir ("" for the system's temporary directory), which must exist. Close gives
// the file back. Where the system lets it, the file has no name from the start, so that a killed process leaves none.
func NewStates(dir string, lengths []int, d int, memLimit int64) (*States, error) {
	s := &States{d: d, lengths: lengths, dir: dir, limit: memLimit, memory: make([][]float32, len(lengths)), offset: make([]int64, len(lengths))}
	if memLimit == 0 {
		s.limit = math.MaxInt64
	}
	for i := range lengths {
		s.offset[i] = -1
	}
	for i := range lengths {
		if err := s.home(i); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// errLost says that a window does not lie on the device, and that there is no other place for it.
var errLost = errors.New("nn: the state of a window is lost")

// bytes is the size of the state of window i.
func (s *States) bytes(i int) int64 { return 4 * int64(s.lengths[i]) * int64(s.d) }

// home finds a place for window i in memory or in the file, where it has none.
func (s *States) home(i int) error {
	if s.lossy {
		return errLost
	}
	if s.memory[i] != nil || s.offset[i] >= 0 {
		return nil
	}
	n, err := product(s.lengths[i], s.d)
	if err != nil {
		return err
	}
	bytes := 4 * int64(n)
	if bytes <= s.limit-s.used {
		s.used += bytes
		s.memory[i] = make([]float32, n)
		return nil
	}
	if s.size > math.MaxInt64-bytes {
		return fmt.Errorf("nn: states of %d windows are too large", len(s.lengths))
	}
	if err := s.open(); err != nil {
		return err
	}
	if err := s.file.Truncate(s.size + bytes); err != nil {
		return fmt.Errorf("nn: spill states: %w", err)
	}
	s.offset[i] = s.size
	s.size += bytes
	return nil
}

// open makes the file, where there is none yet.
func (s *States) open() error {
	if s.file != nil {
		return nil
	}
	f, err := os.CreateTemp(s.dir, "states-*.f32")
	if err != nil {
		return fmt.Errorf("nn: spill states: %w", err)
	}
	s.file, s.name = f, f.Name()
	if os.Remove(s.name) == nil {
		s.name = ""
	}
	return nil
}

// Spilled reports whether there is a file for windows.
func (s *States) Spilled() bool { return s.file != nil }

func (s *States) check(i, n int) {
	if n != s.lengths[i]*s.d {
		panic(fmt.Sprintf("nn: %d values for window %d of %d positions of width %d", n, i, s.lengths[i], s.d))
	}
}

// Get copies the state of window i to dst, [T, D].
func (s *States) Get(i int, dst []float32) error {
	s.check(i, len(dst))
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.resident(i) != nil:
		s.device.dev.Download(dst, s.resident(i), 0)
	case s.memory[i] != nil:
		copy(dst, s.memory[i])
	default:
		return s.read(i, func(at int, part []float32) { copy(dst[at:], part) })
	}
	return nil
}

// View returns the state of window i, [T, D], which is not to be changed and valid until the next Put or View.
func (s *States) View(i int) ([]float32, error) {
	s.mu.Lock()
	v := s.memory[i]
	s.mu.Unlock()
	if v != nil {
		return v, nil
	}
	if n := s.lengths[i] * s.d; len(s.view) < n {
		s.view = make([]float32, n)
	}
	v = s.view[:s.lengths[i]*s.d]
	return v, s.Get(i, v)
}

// Width returns the number of values of a position.
func (s *States) Width() int { return s.d }

// Put copies src, [T, D], to the state of window i.
func (s *States) Put(i int, src []float32) error {
	s.check(i, len(src))
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.place(i); b != nil {
		s.device.dev.Upload(b, 0, src)
		return nil
	}
	if err := s.home(i); err != nil {
		return err
	}
	if s.memory[i] != nil {
		copy(s.memory[i], src)
		return nil
	}
	return s.write(i, func(at int, part []float32) { copy(part, src[at:]) })
}

// read shows the state of a window in the file, some values at a time.
func (s *States) read(i int, f func(at int, part []float32)) error {
	n, part, p := s.lengths[i]*s.d, s.buffers(), s.raw
	for at := 0; at < n; at += len(part) {
		c := min(len(part), n-at)
		if _, err := s.file.ReadAt(p[:4*c], s.offset[i]+4*int64(at)); err != nil {
			return fmt.Errorf("nn: read spilled states: %w", err)
		}
		for j := range part[:c] {
			part[j] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*j:]))
		}
		f(at, part[:c])
	}
	return nil
}

// write asks for the state of a window in the file, some values at a time.
func (s *States) write(i int, f func(at int, part []float32)) error {
	n, part, p := s.lengths[i]*s.d, s.buffers(), s.raw
	for at := 0; at < n; at += len(part) {
		c := min(len(part), n-at)
		f(at, part[:c])
		for j, v := range part[:c] {
			binary.LittleEndian.PutUint32(p[4*j:], math.Float32bits(v))
		}
		if _, err := s.file.WriteAt(p[:4*c], s.offset[i]+4*int64(at)); err != nil {
			return fmt.Errorf("nn: spill states: %w", err)
		}
	}
	return nil
}

// buffers returns room for some values, and makes room for their bytes.
func (s *States) buffers() []float32 {
	if s.raw == nil {
		s.raw, s.part = make([]byte, chunkBytes), make([]float32, chunkBytes/4)
	}
	return s.part
}

// Close gives the memory back and removes the file.
func (s *States) Close() error {
	s.leave()
	s.memory = make([][]float32, len(s.lengths))
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
