package device

import "errors"

// ErrMemory is the cause where a device, or the budget of its memory, has no room.
var ErrMemory = errors.New("out of device memory")

// Fault is what an operation that returns no error panics with where the device cannot carry it out: for want of memory, or because
// the device failed. It is not for wrong sizes, which are bugs and panic with text.
type Fault struct {
	Op  string // the operation, such as "Attention"
	Err error
}

// Error names the operation and the cause.
func (f *Fault) Error() string { return "device: " + f.Op + ": " + f.Err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }
