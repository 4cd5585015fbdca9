package distill

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"modelpress/formats"
)

// TopKHeader describes a file of a teacher's predictions.
type TopKHeader struct {
	Vocab       int // V
	K           int // outcomes of a token besides the rest, below V
	Tokens      int64
	Temperature float64
	Half        bool     // logarithms are stored as F16, else as F32
	Run         [32]byte // digest of what the predictions were made from: teacher and windows
}

// Bounds on what a header may ask for.
const (
	maxTopK      = 1 << 12
	maxTopKVocab = 1 << 22
)

const (
	topKMagic       = "mptopk\x00\x01" // the last byte is the version
	topKHeaderBytes = 72
)

// Check returns an error where the numbers are out of range.
func (h TopKHeader) Check() error {
	switch {
	case h.Vocab < 2 || h.Vocab > maxTopKVocab:
		return fmt.Errorf("vocabulary of %d", h.Vocab)
	case h.K < 1 || h.K >= h.Vocab || h.K > maxTopK:
		return fmt.Errorf("top %d of a vocabulary of %d", h.K, h.Vocab)
	case !(h.Temperature > 0) || math.IsInf(h.Temperature, 0):
		return fmt.Errorf("temperature %g", h.Temperature)
	case h.Tokens < 0 || h.Tokens > (math.MaxInt64-topKHeaderBytes-sealBytes)/int64(h.record()):
		return fmt.Errorf("%d tokens", h.Tokens)
	}
	return nil
}

// idBytes is 2 where token ids fit 16 bits.
func (h TopKHeader) idBytes() int {
	if h.Vocab <= 1<<16 {
		return 2
	}
	return 4
}

func (h TopKHeader) valueType() formats.DType {
	if h.Half {
		return formats.F16
	}
	return formats.F32
}

// record is the number of bytes of a token.
func (h TopKHeader) record() int { return h.K*h.idBytes() + (h.K+1)*h.valueType().Size() }

// Bytes returns the size of the file:
//
//	72 + Tokens * (K*I + (K+1)*L) + 32
//
// with I the bytes of a token id, 2 for a vocabulary of at most 65536 and else 4, and L those of a logarithm, 2 or 4.
func (h TopKHeader) Bytes() int64 {
	return topKHeaderBytes + h.Tokens*int64(h.record()) + sealBytes
}

// encode returns the header: magic, vocabulary and K in 32 bits, tokens and temperature in 64, the size of a logarithm in a byte,
// seven zeros, and the digest of the run; little-endian.
func (h TopKHeader) encode() []byte {
	b := []byte(topKMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Vocab))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.K))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Tokens))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(h.Temperature))
	b = append(b, byte(h.valueType().Size()), 0, 0, 0, 0, 0, 0, 0)
	return append(b, h.Run[:]...)
}

func decodeTopKHeader(b []byte) (h TopKHeader, err error) {
	if string(b[:8]) != topKMagic {
		return h, errors.New("not a file of a teacher's predictions, or of another version")
	}
	h.Vocab, h.K = int(binary.LittleEndian.Uint32(b[8:])), int(binary.LittleEndian.Uint32(b[12:]))
	h.Tokens = int64(binary.LittleEndian.Uint64(b[16:]))
	h.Temperature = math.Float64frombits(binary.LittleEndian.Uint64(b[24:]))
	h.Half = b[32] == 2
	copy(h.Run[:], b[40:])
	if b[32] != 2 && b[32] != 4 || string(b[33:40]) != "\x00\x00\x00\x00\x00\x00\x00" {
		return h, errors.New("the header has bits that are not known")
	}
	return h, h.Check()
}

// checkRow refuses a token whose ids do not ascend within the vocabulary, or whose probabilities do not add up to 1 as far as
// rounded ones do. It returns what they add up to.
func (h TopKHeader) checkRow(ids []int32, log []float32, rest float32) (sum float64, err error) {
	last := int32(-1)
	for _, id := range ids {
		if id <= last || int(id) >= h.Vocab {
			return 0, fmt.Errorf("token ids do not ascend within the vocabulary of %d: %d after %d", h.Vocab, id, last)
		}
		last = id
	}
	sum = math.Exp(float64(rest))
	for _, l := range log {
		sum += math.Exp(float64(l))
	}
	// Logarithms in F16 are off by at most 2⁻¹¹ of themselves: p*|log p|*2⁻¹¹ over k+1 outcomes is below log(k+1)*2⁻¹¹ in all.
	slack := 1e-4
	if h.Half {
		slack = 1e-2
	}
	if !(math.Abs(sum-1) <= slack) {
		return 0, fmt.Errorf("probabilities add up to %g", sum)
	}
	return sum, nil
}
