package distill

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"modelpress/formats"
)

// ErrOtherRun says that a state is not of the run that is to go on from it.
var ErrOtherRun = errors.New("the state is of another run")

// Vector is a named part of a run's state: values in f32, in f64, or in bfloat16 as stored. Exactly one of the slices is set.
type Vector struct {
	Name string
	F32  []float32
	F64  []float64
	Half []uint16
}

// State is everything that a run goes on from after a step.
type State struct {
	Run     [32]byte // what the run is: [RunDigest]
	Step    int64    // steps done
	Stop    EarlyStop
	Vectors []Vector // parameters, moments, masks and whatever else changes, in the order of the run
}

// RunDigest returns the SHA-256 of parts that say what a run is, such as options, model and data, each after its length, so that
// no two lists of parts look the same.
func RunDigest(parts ...[]byte) [32]byte {
	sum := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		sum.Write(n[:])
		sum.Write(p)
	}
	return [32]byte(sum.Sum(nil))
}

const (
	stateMagic = "mptrain\x01" // the last byte is the version
	// stateFixed is the header: magic, run, step, the four values of EarlyStop, the number of vectors. All numbers have 8 bytes.
	stateFixed = 8 + 32 + 6*8
	maxVectors = 1 << 20
	maxName    = 1 << 12
)

// size returns the bytes of a value, and how many there are.
func (v *Vector) size() (bytes, n int) {
	switch {
	case v.F64 != nil:
		return 8, len(v.F64)
	case v.Half != nil:
		return 2, len(v.Half)
	}
	return 4, len(v.F32)
}

// directory lists the vectors: the length of the name, the bytes of a value, the number of values, each in 8 bytes, and the name.
// It returns the size of the whole file too.
func (s *State) directory() (dir []byte, size int64, err error) {
	if len(s.Vectors) > maxVectors {
		return nil, 0, fmt.Errorf("%d vectors", len(s.Vectors))
	}
	data := int64(0)
	names := make(map[string]bool, len(s.Vectors))
	for i := range s.Vectors {
		v := &s.Vectors[i]
		if len(v.Name) > maxName || names[v.Name] {
			return nil, 0, fmt.Errorf("name of vector %d is too long or stands twice", i)
		}
		names[v.Name] = true
		width, n := v.size()
		if int64(n) > (math.MaxInt64/2-data)/int64(width) {
			return nil, 0, fmt.Errorf("%d values of vector %d", n, i)
		}
		data += int64(n) * int64(width)
		for _, k := range []int{len(v.Name), width, n} {
			dir = binary.LittleEndian.AppendUint64(dir, uint64(k))
		}
		dir = append(dir, v.Name...)
	}
	return dir, stateFixed + int64(len(dir)) + data + sealBytes, nil
}

// header returns the fixed part.
func (s *State) header() []byte {
	b := append([]byte(stateMagic), s.Run[:]...)
	seen := uint64(0)
	if s.Stop.Seen {
		seen = 1
	}
	for _, n := range []uint64{uint64(s.Step), math.Float64bits(s.Stop.Best), uint64(s.Stop.BestStep), uint64(s.Stop.Worse), seen,
		uint64(len(s.Vectors))} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// setHeader takes step and early stop from the fixed part b of a file whose magic is right.
func (s *State) setHeader(b []byte) error {
	if !bytes.Equal(b[8:40], s.Run[:]) {
		return ErrOtherRun
	}
	var n [6]uint64
	for i := range n {
		n[i] = binary.LittleEndian.Uint64(b[40+8*i:])
	}
	best := math.Float64frombits(n[1])
	switch {
	case n[5] != uint64(len(s.Vectors)):
		return fmt.Errorf("%w: %d vectors where it has %d", ErrOtherRun, n[5], len(s.Vectors))
	case n[0] > math.MaxInt64 || n[2] > n[0] || n[3] > math.MaxInt32 || n[4] > 1 || math.IsNaN(best) || math.IsInf(best, 0):
		return errors.New("the header has numbers that no run leaves")
	}
	s.Step = int64(n[0])
	s.Stop.Best, s.Stop.BestStep, s.Stop.Worse, s.Stop.Seen = best, int64(n[2]), int(n[3]), n[4] == 1
	return nil
}

// WriteState writes the state to a file, which is there whole or not at all and replaces an older one only once it is on the disk.
// The file holds a header, a list of the vectors, their values, and the SHA-256 of all that; its bytes are a function of s alone.
// Memory: 2 MiB.
func WriteState(path string, s *State) error {
	if err := writeState(path, s); err != nil {
		return fmt.Errorf("distill: state: %w", err)
	}
	return nil
}

func writeState(path string, s *State) error {
	dir, size, err := s.directory()
	if err != nil {
		return err
	}
	if err := formats.CheckSpace(filepath.Dir(path), size); err != nil {
		return err
	}
	w, err := createSealed(path)
	if err != nil {
		return err
	}
	_, err = w.Write(append(s.header(), dir...))
	buf := make([]byte, fileBuffer)
	for i := 0; i < len(s.Vectors) && err == nil; i++ {
		err = s.Vectors[i].each(buf, func(p []byte, from int) error {
			s.Vectors[i].encode(p, from)
			_, err := w.Write(p)
			return err
		})
	}
	return w.finish(err)
}

// ReadState fills in step, early stop and the values of the vectors of s from a file. Run, and the names, types and lengths of the
// vectors, say what the file must hold: the memory is the run's own, and nothing is taken by what a file says. The file's digest is
// checked first, so that nothing of s changes where it is damaged. Errors about the content are *formats.Error; that of a state of
// another run has [ErrOtherRun] in its chain, that of a file that is missing fs.ErrNotExist. Memory: 1 MiB and the list of vectors.
func ReadState(path string, s *State) error {
	dir, size, err := s.directory()
	if err != nil {
		return fmt.Errorf("distill: state: %w", err)
	}
	f, err := openSealed(path)
	if err != nil {
		return fmt.Errorf("distill: state: %w", err)
	}
	err = s.read(f, dir, size)
	f.f.Close()
	if err != nil {
		return fmt.Errorf("distill: state: %w", err)
	}
	return nil
}

func (s *State) read(f *sealedFile, dir []byte, size int64) error {
	head := make([]byte, stateFixed)
	if f.size < stateFixed {
		return formats.Errorf(f.name, "", "ends within its header")
	}
	if err := f.read(head, 0); err != nil {
		return err
	}
	if string(head[:8]) != stateMagic {
		return formats.Errorf(f.name, "", "not a state of training, or of another version")
	}
	if f.size+sealBytes > size { // which may be without end
		return formats.Errorf(f.name, "", "%w: %d bytes where it has %d", ErrOtherRun, f.size+sealBytes, size)
	}
	if err := f.verify(); err != nil {
		return err
	}
	got := State{Run: s.Run, Stop: s.Stop, Vectors: s.Vectors}
	if err := got.setHeader(head); err != nil {
		return formats.Errorf(f.name, "", "%w", err)
	}
	if f.size+sealBytes != size {
		return formats.Errorf(f.name, "", "%w: %d bytes where it has %d", ErrOtherRun, f.size+sealBytes, size)
	}
	list := make([]byte, len(dir))
	if err := f.read(list, stateFixed); err != nil {
		return err
	}
	if !bytes.Equal(list, dir) {
		return formats.Errorf(f.name, "", "%w: its vectors are others", ErrOtherRun)
	}
	s.Step, s.Stop = got.Step, got.Stop
	at, buf := int64(stateFixed+len(dir)), make([]byte, fileBuffer)
	for i := range s.Vectors {
		err := s.Vectors[i].each(buf, func(p []byte, from int) error {
			if err := f.read(p, at); err != nil {
				return err
			}
			at += int64(len(p))
			s.Vectors[i].decode(p, from)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
