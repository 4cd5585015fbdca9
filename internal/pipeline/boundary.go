package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"modelpress/formats"
	"modelpress/internal/device"
	"modelpress/internal/nn"
)

// boundary keeps the hidden states of every calibration window between two decoder blocks, as f32 in a file of the
// partial output. Kept verbatim, a resumed run continues with the very bits of the interrupted one.
//
// Disk: 4·D·Σ T_i bytes. Memory: the encoding scratch of one window, 4·D·max T_i bytes.
//
// On a device with a memory of its own the states lie there besides, as far as there is room, and are written while it computes: 8·D·max
// T_i bytes more.
type boundary struct {
	f       *os.File
	offsets []int64 // in elements, one more than there are windows
	buf     []byte

	parts   []*boundary  // of the windows of each device, with the same file; nil before they are needed
	hot     *nn.States   // on the device; nil where it has no memory of its own
	copies  [2][]float32 // what is being written, and what is written next
	writing chan error   // nil where nothing is

	splitting sync.Once
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

// of returns the part of the windows of one of the devices of a group.
func (b *boundary) of(j int, g *blockGroup) *boundary {
	b.splitting.Do(func() {
		for k, m := range g.models {
			p := &boundary{f: b.f, offsets: b.offsets[g.cuts[k] : g.cuts[k+1]+1], buf: make([]byte, len(b.buf))}
			p.onDevice(m, g.kept[k].rows(m))
			b.parts = append(b.parts, p)
		}
	})
	return b.parts[j]
}

// onDevice has the states lie on the device of a model, too, whose blocks take up to rows positions at once.
func (b *boundary) onDevice(m *nn.Model, rows int) {
	if _, ok := m.Dev.(device.Remote); ok && b.hot == nil {
		lengths := make([]int, len(b.offsets)-1)
		for i := range lengths {
			lengths[i] = b.elements(i) / m.Arch.D
		}
		b.hot = nn.NewDeviceStates(m, lengths, rows)
	}
}

// load copies the states of window i to x[off:], a buffer of the device.
func (b *boundary) load(dev device.Device, i int, x device.Buf, off int) error {
	n := b.elements(i)
	if b.hot != nil && b.hot.Holds(i) {
		return b.hot.GetBuf(i, x, off)
	}
	if h := dev.Host(x); h != nil {
		return b.get(i, h[off:off+n])
	}
	if err := b.settle(); err != nil {
		return err
	}
	host := b.copy(0, n)
	if err := b.get(i, host); err != nil {
		return err
	}
	dev.Upload(x, off, host)
	if b.hot != nil { // of an earlier run
		return b.hot.PutBuf(i, x, off)
	}
	return nil
}

// store takes the states of window i from x[off:]. Where the host cannot address them they are written while the caller goes on.
func (b *boundary) store(dev device.Device, i int, x device.Buf, off int) error {
	n := b.elements(i)
	if h := dev.Host(x); h != nil {
		return b.put(i, h[off:off+n])
	}
	if b.hot != nil {
		if err := b.hot.PutBuf(i, x, off); err != nil {
			return err
		}
	}
	host := b.copy(1, n)
	dev.Download(host, x, off)
	if err := b.settle(); err != nil {
		return err
	}
	b.copies[0], b.copies[1] = b.copies[1], b.copies[0]
	done := make(chan error, 1)
	b.writing = done
	go func() { done <- b.put(i, host) }()
	return nil
}

// copy returns room for n values on the host.
func (b *boundary) copy(which, n int) []float32 {
	if len(b.copies[which]) < n {
		b.copies[which] = make([]float32, n)
	}
	return b.copies[which][:n]
}

// settle waits for what is being written.
func (b *boundary) settle() error {
	if b.writing == nil {
		return nil
	}
	err := <-b.writing
	b.writing = nil
	return err
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

func (b *boundary) sync() error { return formats.NoSpace(b.f.Sync()) }

func (b *boundary) close() error {
	var errs []error
	for _, p := range b.parts {
		errs = append(errs, p.leave())
	}
	return errors.Join(append(errs, b.leave(), b.f.Close())...)
}

// leave gives up all but the file.
func (b *boundary) leave() error {
	err := b.settle()
	if b.hot != nil {
		err = errors.Join(err, b.hot.Close())
	}
	return err
}
