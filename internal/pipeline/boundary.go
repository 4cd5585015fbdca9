package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"modelpress/formats"
)

// boundary keeps the hidden states of every calibration window between two decoder blocks, as f32 in a file of the
// partial output. Kept verbatim, a resumed run continues with the very bits of the interrupted one.
//
// Disk: 4·D·Σ T_i bytes. Memory: the encoding scratch of one window, 4·D·max T_i bytes.
type boundary struct {
	f       *os.File
	offsets []int64 // in elements, one more than there are windows
	buf     []byte
}

// boundaryName is the file of the states that enter layer l.
func boundaryName(dir string, l int) string {
	return filepath.Join(dir, fmt.Sprintf("states-%04d.f32", l))
}

// mergeName is the file of the states that enter layer l while KV heads are merged.
func mergeName(dir string, l int) string {
	return filepath.Join(dir, fmt.Sprintf("kvmerge-%04d.f32", l))
}

// openBoundary opens or creates a file of states, for windows of the given lengths.
func openBoundary(path string, lengths []int, d int) (*boundary, error) {
	b := &boundary{offsets: make([]int64, len(lengths)+1)}
	longest := 0
	for i, t := range lengths {
		b.offsets[i+1] = b.offsets[i] + int64(t)*int64(d)
		longest = max(longest, t)
	}
	b.buf = make([]byte, 4*longest*d)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pipeline: boundary states: %w", err)
	}
	if err := f.Truncate(4 * b.offsets[len(lengths)]); err != nil {
		return nil, errors.Join(fmt.Errorf("pipeline: boundary states: %w", formats.NoSpace(err)), f.Close())
	}
	b.f = f
	return b, nil
}

func (b *boundary) elements(i int) int { return int(b.offsets[i+1] - b.offsets[i]) }

func (b *boundary) get(i int, dst []float32) error {
	p := b.buf[:4*b.elements(i)]
	if _, err := b.f.ReadAt(p, 4*b.offsets[i]); err != nil {
		return fmt.Errorf("pipeline: boundary states of window %d: %w", i, err)
	}
	return formats.Decode(dst, p, formats.F32)
}

func (b *boundary) put(i int, src []float32) error {
	p := b.buf[:4*b.elements(i)]
	if err := formats.Encode(p, src, formats.F32); err != nil {
		return err
	}
	if _, err := b.f.WriteAt(p, 4*b.offsets[i]); err != nil {
		return fmt.Errorf("pipeline: boundary states of window %d: %w", i, formats.NoSpace(err))
	}
	return nil
}

// digest returns the sha256 of the whole file.
func (b *boundary) digest() (string, error) {
	if _, err := b.f.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("pipeline: boundary states: %w", err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, b.f); err != nil {
		return "", fmt.Errorf("pipeline: boundary states: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (b *boundary) sync() error  { return formats.NoSpace(b.f.Sync()) }
func (b *boundary) close() error { return b.f.Close() }
