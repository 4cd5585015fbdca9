package calib

import (
	"strings"
	"testing"
	"time"
)

// benchText is about 1 MB of code and prose.
func benchText() string {
	m := newTextMaker(7)
	var b strings.Builder
	for b.Len() < 1<<20 {
		b.WriteString(m.code())
		b.WriteString("\n")
		b.WriteString(m.prose())
		b.WriteString("\n")
	}
	return b.String()
}

func BenchmarkEncode(b *testing.B) {
	text := benchText()
	for _, v := range variants(b) {
		switch v.Name {
		case "gpt2", "llama3", "qwen2", "o200k", "llama2", "mistral":
		default:
			continue
		}
		b.Run(v.Name, func(b *testing.B) {
			tok := loadVariant(b, v)
			tokens := 0
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tokens += len(tok.Encode(text))
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds()/1e6, "Mtok/s")
		})
	}
}

// TestEncodeLongRuns checks that no input is quadratic: a megabyte of one character or of an unlucky pattern, in every
// variant, stays far from what quadratic work would take (minutes).
func TestEncodeLongRuns(t *testing.T) {
	units := []string{"a", " ", "\n", "ª", "AªA", " \n", "\u0301", "<", "<|", "▁", "'", "日", "1", "\t ", "e\u0323\u0302"}
	for _, v := range variants(t) {
		tok := loadVariant(t, v)
		for _, unit := range units {
			text := strings.Repeat(unit, (1<<18)/len(unit))
			start := time.Now()
			ids := tok.Encode(text)
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("%s: %d bytes of %q took %v (%d tokens)", v.Name, len(text), unit, d, len(ids))
			}
		}
	}
}
