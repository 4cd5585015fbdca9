package emu

import (
	"testing"
)

// The driver keeps its rules however streams run.
func TestDriver(t *testing.T) {
	for _, test := range []string{"large", "arguments", "modules", "faults"} {
		for _, s := range []string{"lazy", "ahead", "eager", "random:1", "random:2"} {
			pass(t, "driver", test, "MODELPRESS_EMU_STREAMS="+s)
		}
	}
	for _, test := range []string{"null_stream", "events"} {
		pass(t, "driver", test)
	}
	pass(t, "driver", "memory", "MODELPRESS_EMU_MEMORY=1048576")
	pass(t, "driver", "contexts", "MODELPRESS_EMU_DEVICES=2")
	pass(t, "driver", "limits", "MOST=227")
	pass(t, "driver", "limits", "MOST=163", "MODELPRESS_EMU_CAPABILITY=80")
	pass(t, "driver", "no_device", "MODELPRESS_EMU_DEVICES=0", "WANT=100")
	pass(t, "driver", "no_device", "MODELPRESS_EMU_INIT=999", "WANT=999")
}

// A program that does not wait for what it needs shows it, in one way of running streams or another; one that waits never does.
func TestStreams(t *testing.T) {
	for _, c := range []struct{ test, streams, want string }{
		{"pinned", "lazy", "got 2\n"},
		{"pinned", "eager", "got 1\n"},
		{"waits", "lazy", "without nan, with 2\n"},
		{"waits", "ahead", "without 2, with 2\n"},
		{"waits", "eager", "without 2, with 2\n"},
		{"overwrite", "lazy", "waits 0: 2\nwaits 1: 2\n"},
		{"overwrite", "ahead", "waits 0: 20\nwaits 1: 2\n"},
	} {
		if got := pass(t, "driver", c.test, "MODELPRESS_EMU_STREAMS="+c.streams); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.test, c.streams, got, c.want)
		}
	}
}
