package ui

import "testing"

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"7": 7, "7B": 7, "2KB": 2000, "1.5 MiB": 3 << 19, "1gb": 1e9, "2GiB": 2 << 30} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "0", "NaN", "1e30", "4 apples", "0.1"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
