package emu

import (
	"regexp"
	"strings"
	"testing"
)

// Races are found in every order of threads, and what is ordered is not taken for one.
func TestRaces(t *testing.T) {
	path := program(t, "races", raceProbes)
	for _, c := range []struct{ test, pattern string }{
		{"exchange", `races.cu:\d+: (reads|writes) what thread \d+ (wrote|read), and nothing orders the two: variables in shared memory`},
		{"reuse", `races.cu:\d+: (reads|writes) what thread \d+ (wrote|read), and nothing orders the two: byte \d+ of dynamic shared memory`},
		{"lanes_exchange", `races.cu:\d+: (reads|writes) what thread \d+ (wrote|read), and nothing orders`},
		{"across", `races.cu:\d+: writes what a thread of another block wrote, and nothing orders the two: address 0x\w+, byte \d+ of an allocation`},
		{"neighbours", `races.cu:\d+: (writes what a thread of another block read|reads what a thread of another block wrote)`},
		{"halves_of_words", ""},
		{"counted", ""},
		{"tile", `(reads|writes) what thread \d+ (wrote|read), and nothing orders the two: variables`},
	} {
		for _, s := range schedules {
			out, err := start(path, c.test, "MODELPRESS_EMU_SCHEDULE="+s, "WAIT=1")
			if err != nil || !strings.HasSuffix(out, "done\n") {
				t.Errorf("%s, %s, with its barriers: %v\n%s", c.test, s, err, out)
			}
			if c.pattern == "" {
				continue
			}
			out, err = start(path, c.test, "MODELPRESS_EMU_SCHEDULE="+s, "WAIT=0")
			if err == nil || !regexp.MustCompile(c.pattern).MatchString(out) {
				t.Errorf("%s, %s, without barriers: %v, and no %q in\n%s", c.test, s, err, c.pattern, out)
			}
		}
	}
}
