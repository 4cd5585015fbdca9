package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Instructions that are emitted as bytes must be those that GNU as makes of their names.
func TestEncodings(t *testing.T) {
	listing, err := os.ReadFile("testdata/encodings.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(listing)), "\n") {
		code, text, _ := strings.Cut(line, ": ")
		want[text] = code
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(string(bf16s()), "\n") {
		code, text, ok := strings.Cut(line, " // ")
		if !ok || !strings.HasPrefix(code, "\tBYTE ") {
			continue
		}
		var have []string
		for _, b := range strings.Split(strings.TrimSpace(code), "; ") {
			v, err := strconv.ParseUint(strings.TrimPrefix(b, "BYTE $0x"), 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			have = append(have, strconv.FormatUint(v+0x100, 16)[1:])
		}
		seen[text] = true
		if got := strings.Join(have, " "); got != want[text] {
			t.Errorf("%s: %s, the assembler gives %q", text, got, want[text])
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d instructions emitted, %d in the listing", len(seen), len(want))
	}
	// Registers on both sides of every bit of their numbers, and each role.
	for text, code := range map[string]string{ // GNU as 2.40
		"vdpbf16ps %zmm1,%zmm2,%zmm3": "62 f2 6e 48 52 d9", "vdpbf16ps %zmm31,%zmm0,%zmm8": "62 12 7e 48 52 c7",
		"vdpbf16ps %zmm9,%zmm17,%zmm16": "62 c2 76 40 52 c1", "vcvtne2ps2bf16 %zmm24,%zmm15,%zmm7": "62 92 07 48 72 f8",
	} {
		w := newWriter()
		f := strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
		r := make([]int, 3)
		for i := range r {
			r[i], _ = strconv.Atoi(f[len(f)-3+i])
		}
		if text[1] == 'd' {
			dpBF16(w, r[0], r[1], r[2])
		} else {
			cvtBF16(w, r[0], r[1], r[2])
		}
		got := strings.ReplaceAll(strings.ReplaceAll(w.String(), "BYTE $0x", ""), ";", "")
		if !strings.Contains(got, "\t"+code+" // "+text) {
			t.Errorf("%s: want %s, got %s", text, code, got[strings.LastIndex(got, "\t"):])
		}
	}
}
