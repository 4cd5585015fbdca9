package heads

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"modelpress/calib"
)

// A state is the mark, the identity of the run, the number of steps and of gates as little-endian 64-bit integers; per gate
// its value, its two moments, its mean at the last check and its sum since; the loss since then; per check its numbers (float64, or
// 64-bit integers for counts); and the SHA-256 of all that.
const duoMark = "modelpress-duo-2"

// ErrState is what a state of interrupted training that does not fit the run is refused with.
var ErrState = errors.New("state of interrupted training")

// What is wrong with a state.
var (
	errDuoState = fmt.Errorf("%w: is not whole", ErrState)
	errDuoRun   = fmt.Errorf("%w: belongs to another run: options, model, prompts or key differ", ErrState)
)

// identity hashes all that the gates depend on besides the weights, for which StateKey stands.
func (d *duo) identity() [32]byte {
	o := &d.opt
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%s\n%s\n", duoMark, o.StateKey, d.m.Dev.Class(), calib.PromptsDigest(d.prompts))
	fmt.Fprintf(h, "%d %d %d %d %d\n", o.Sink, o.Recent, o.Steps, o.Seed, o.Question)
	fmt.Fprintf(h, "%x %x %x %x %d %d %d\n", o.LR, o.Reg, o.Share, o.MinRank, o.Every, o.Patience, o.MinSteps)
	fmt.Fprintf(h, "%d %d\n", d.m.Arch.D, len(d.m.Arch.Layers))
	for _, l := range d.m.Arch.Layers {
		fmt.Fprintf(h, "%d %d %d %d %d\n", l.H, l.G, l.K, l.F, l.Window)
	}
	return [32]byte(h.Sum(nil))
}

func (d *duo) encode() []byte {
	b := append([]byte(duoMark), d.key[:]...)
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(d.step))
	b = le.AppendUint64(b, uint64(len(d.alpha)))
	float := func(v float64) { b = le.AppendUint64(b, math.Float64bits(v)) }
	for _, row := range [][]float64{d.alpha, d.m1, d.m2, d.checked, d.sum} {
		for _, v := range row {
			float(v)
		}
	}
	float(d.loss)
	for _, c := range d.checks {
		float(c.Loss)
		float(c.Mean)
		float(c.Rank)
		stable := uint64(0)
		if c.Stable {
			stable = 1
		}
		b = le.AppendUint64(b, uint64(c.Changed)<<1|stable)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decode takes a state over. Its length is known from the number of its steps, which the options bound.
func (d *duo) decode(b []byte) error {
	const head = len(duoMark) + 32 + 16
	if len(b) < head+32 || string(b[:len(duoMark)]) != duoMark {
		return errDuoState
	}
	body, le := b[:len(b)-32], binary.LittleEndian
	if sha256.Sum256(body) != [32]byte(b[len(body):]) {
		return errDuoState
	}
	if [32]byte(b[len(duoMark):]) != d.key {
		return errDuoRun
	}
	steps, gates := le.Uint64(body[head-16:]), le.Uint64(body[head-8:])
	if steps > uint64(d.opt.Steps) || gates != uint64(len(d.alpha)) {
		return errDuoState
	}
	checks := int(steps) / d.opt.Every
	if len(body) != head+8*(5*len(d.alpha)+1+4*checks) {
		return errDuoState
	}
	r := duoReader{b: body[head:]}
	for _, row := range [][]float64{d.alpha, d.m1, d.m2, d.checked, d.sum} {
		for i := range row {
			row[i] = r.float()
		}
	}
	d.step, d.loss, d.checks = int(steps), r.float(), nil
	for i := range checks {
		c := DuoCheck{Step: (i + 1) * d.opt.Every, Loss: r.float(), Mean: r.float(), Rank: r.float()}
		n := r.next()
		c.Changed, c.Stable = int(n>>1), n&1 == 1
		if n>>1 > gates {
			r.bad = true
		}
		d.checks = append(d.checks, c)
	}
	for i, a := range d.alpha {
		if !(a >= 0 && a <= 1 && d.checked[i] >= 0 && d.checked[i] <= 1 && d.m2[i] >= 0 && d.sum[i] >= 0 && d.sum[i] <= float64(d.opt.Every)) {
			r.bad = true
		}
	}
	if r.bad {
		return errDuoState
	}
	return nil
}

// duoReader reads words of a state whose length has been checked.
type duoReader struct {
	b   []byte
	bad bool // a float was not finite
}

func (r *duoReader) next() uint64 {
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *duoReader) float() float64 {
	v := math.Float64frombits(r.next())
	r.bad = r.bad || math.IsNaN(v) || math.IsInf(v, 0)
	return v
}
