package pipeline

import (
	"errors"

	"modelpress/internal/device"
)

// guarded runs f, and makes what a device could not carry out an error of KindResource. Any other panic goes on.
func guarded(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
			err = deviceError(err)
		case *device.Fault:
			err = deviceError(p)
		default:
			panic(p)
		}
	}()
	return f()
}

// deviceError gives an error of the device, unless it has a class already, its class and what to do next.
func deviceError(err error) error {
	var fault *device.Fault
	short := errors.Is(err, device.ErrMemory)
	if KindOf(err) != 0 || !short && !errors.As(err, &fault) {
		return err
	}
	hint := "see the driver's messages (dmesg, nvidia-smi) and run it again, which goes on where it was, or take --device cpu"
	if short {
		hint = "free memory of the device or raise --max-device-memory, give shorter windows (calibration.length) or fewer at a time, or take --device cpu"
	}
	return &Error{Kind: KindResource, Err: err, Hint: hint}
}
