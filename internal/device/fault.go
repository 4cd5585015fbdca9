package device

import "fmt"

// Fault is what an operation panics with that a device could not carry out: for want of memory, or because the device failed.
// Whoever runs operations for a user recovers it and nothing else.
type Fault struct {
	Op  string // the operation, such as "Attention"
	Err error
}

// Error implements error.
func (f *Fault) Error() string { return fmt.Sprintf("device: %s: %v", f.Op, f.Err) }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }
