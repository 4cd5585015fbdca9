package calib

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// Windows are token sequences in the order in which a model sees them.
type Windows struct {
	IDs [][]int32
	// Digest is "sha256:" and the hex hash of the number of windows and, for each window, its length and its ids, all as
	// little-endian 64-bit (counts) and 32-bit (ids) integers.
	Digest string
}

// NewWindows returns windows over ids, which are not copied, with their digest.
func NewWindows(ids [][]int32) Windows {
	return Windows{IDs: ids, Digest: digestIDs(ids)}
}

// Tokens is the total number of ids.
func (w Windows) Tokens() int {
	n := 0
	for _, ids := range w.IDs {
		n += len(ids)
	}
	return n
}

// Longest is the length of the longest window.
func (w Windows) Longest() int {
	n := 0
	for _, ids := range w.IDs {
		n = max(n, len(ids))
	}
	return n
}

// Flat returns the ids of all windows in one slice, without the first skip ids of each: a haystack for [MakePrompts].
func (w Windows) Flat(skip int) []int32 {
	flat := make([]int32, 0, w.Tokens())
	for _, ids := range w.IDs {
		flat = append(flat, ids[min(skip, len(ids)):]...)
	}
	return flat
}

// Slice returns windows lo to hi-1 with a digest of their own.
func (w Windows) Slice(lo, hi int) Windows { return NewWindows(w.IDs[lo:hi]) }

func digestIDs(windows [][]int32) string {
	h := sha256.New()
	writeCount(h, len(windows))
	for _, ids := range windows {
		writeIDs(h, ids)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func writeCount(h hash.Hash, n int) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

// writeIDs writes the length of ids and the ids.
func writeIDs(h hash.Hash, ids []int32) {
	writeCount(h, len(ids))
	buf := make([]byte, 4*len(ids))
	for i, v := range ids {
		binary.LittleEndian.PutUint32(buf[4*i:], uint32(v))
	}
	h.Write(buf)
}

// Without returns the windows that share no run of [DefaultSpan] tokens with any of other.
func (w Windows) Without(other Windows) Windows {
	s := newSpans(DefaultSpan)
	for _, ids := range other.IDs {
		s.add(ids)
	}
	var kept [][]int32
	for _, ids := range w.IDs {
		if !s.shares(ids) {
			kept = append(kept, ids)
		}
	}
	return NewWindows(kept)
}
