//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"modelpress/internal/device"
	"modelpress/internal/device/cuda/emu"
	"modelpress/internal/device/devicetest"
)

// TestMain has the tests run on the emulated device. It also is the program that tests start with a driver of their own.
func TestMain(m *testing.M) {
	if os.Getenv("MODELPRESS_TEST_RUN") == "probe" {
		_, err := Open(Options{})
		fmt.Printf("%s\nopen: %v\nno driver: %t, no device: %t\n", Probe(), err, errors.Is(err, ErrNoDriver), errors.Is(err, ErrNoDevice))
		os.Exit(0)
	}
	os.Exit(emu.Main(m))
}

// open opens the device for a test.
func open(t testing.TB, o Options) *Device {
	t.Helper()
	emu.Require(t)
	if o.Threads == 0 {
		o.Threads = 2
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// emulated skips a test that tells the emulation to fail on a device that is none.
func emulated(t testing.TB, d *Device) {
	t.Helper()
	if !strings.HasPrefix(d.info.Name, "Emulated") {
		t.Skip("a GPU does not fail when it is told to")
	}
}

var _ device.Device = (*Device)(nil)
var _ device.Remote = (*Device)(nil)

// The conformance suite of devices, in both classes; in one of them each buffer lies between pages that may not be touched.
func TestDevice(t *testing.T) {
	t.Run("f32", func(t *testing.T) { devicetest.Run(t, open(t, Options{})) })
	t.Run("bf16", func(t *testing.T) {
		d := open(t, Options{BF16: true})
		d.arena.apart = true
		devicetest.Run(t, d)
	})
}
