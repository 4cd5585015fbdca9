package calib

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// loadMerges reads merges given as "left right" strings or as [left, right] arrays; their order is their rank.
func (b *bpe) loadMerges(raw json.RawMessage) error {
	if isNull(raw) {
		return errors.New("model.merges is missing")
	}
	merges, err := decodeMerges(raw)
	if err != nil {
		return err
	}
	b.pairs = newPairTable(len(merges))
	for rank, m := range merges {
		left, err := b.mergeToken(rank, m[0])
		if err != nil {
			return err
		}
		right, err := b.mergeToken(rank, m[1])
		if err != nil {
			return err
		}
		id, err := b.mergeToken(rank, m[0]+m[1])
		if err != nil {
			return err
		}
		b.pairs.put(left, right, uint32(rank), id)
	}
	b.splitAt = splittable(b.vocab, merges)
	return nil
}

func (b *bpe) mergeToken(rank int, token string) (int32, error) {
	id, ok := b.vocab[token]
	if !ok || token == "" {
		return 0, fmt.Errorf("model.merges[%d]: token %q is not in the vocabulary", rank, clip(token))
	}
	return id, nil
}

func decodeMerges(raw json.RawMessage) ([][2]string, error) {
	first := bytes.TrimLeft(bytes.TrimPrefix(raw, []byte{'['}), " \t\r\n")
	if bytes.HasPrefix(first, []byte{'"'}) {
		var lines []string
		if err := json.Unmarshal(raw, &lines); err != nil {
			return nil, fmt.Errorf("model.merges: %w", err)
		}
		return splitMerges(lines)
	}
	var pairs [][]string
	if err := json.Unmarshal(raw, &pairs); err != nil {
		return nil, fmt.Errorf("model.merges: %w", err)
	}
	out := make([][2]string, len(pairs))
	for i, p := range pairs {
		if len(p) != 2 {
			return nil, fmt.Errorf("model.merges[%d] has %d parts, not 2", i, len(p))
		}
		out[i] = [2]string{p[0], p[1]}
	}
	return out, nil
}

// splitMerges splits at the one space of each line; "#version" lines of old files do not count.
func splitMerges(lines []string) ([][2]string, error) {
	out := make([][2]string, 0, len(lines))
	for i, line := range lines {
		if strings.HasPrefix(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("model.merges[%d]: %q is not two tokens with a space between", i, clip(line))
		}
		out = append(out, [2]string{left, right})
	}
	return out, nil
}

// splittable returns "▁" when that is a token and no merge joins something that does not end in ▁ to something that
// starts with it.
func splittable(vocab map[string]int32, merges [][2]string) string {
	if _, ok := vocab[metaSymbol]; !ok {
		return ""
	}
	for _, m := range merges {
		if strings.HasPrefix(m[1], metaSymbol) && !strings.HasSuffix(m[0], metaSymbol) {
			return ""
		}
	}
	return metaSymbol
}
