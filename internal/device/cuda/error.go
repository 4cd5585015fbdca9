//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"modelpress/internal/device"
)

// Causes that callers tell apart.
var (
	// ErrNoDriver is the cause where libcuda.so.1 is not found.
	ErrNoDriver = errors.New("cuda: no NVIDIA driver (libcuda.so.1); install one, or name its directory in MODELPRESS_CUDA_PATH")
	// ErrNoDevice is the cause where the driver has no device that this package can use.
	ErrNoDevice = errors.New("cuda: no usable GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES")
	// ErrMemory is the cause where the device, or the budget of its memory, has no room.
	ErrMemory = device.ErrMemory
)

// Results of CUresult that are told apart here.
const (
	codeNoMemory = 2
	codeNoDevice = 100
)

// Error is a call of the driver, or of one of its libraries, that failed.
type Error struct {
	Op     string // the function, such as "cuMemAlloc"
	Code   int    // its result: CUresult, or the status of a library
	Name   string // what the result is called; "" for one of the driver, which is asked
	Detail string // what was asked for, or what else is known
}

// Error names the function, its result and what to do next.
func (e *Error) Error() string {
	name := e.Name
	if name == "" {
		name = codeName(e.Code)
	}
	if name == "" {
		name = "unknown result"
	}
	parts := []string{fmt.Sprintf("cuda: %s: %s (%d)", e.Op, name, e.Code)}
	if e.Detail != "" {
		parts = append(parts, e.Detail)
	}
	if advice := adviceFor(e.Code); advice != "" && e.Name == "" {
		parts = append(parts, advice)
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns ErrMemory where memory is short.
func (e *Error) Unwrap() error {
	if e.Code == codeNoMemory && e.Name == "" {
		return ErrMemory
	}
	return nil
}

// adviceFor says what to do about a result of the driver, after its documentation (CUresult).
func adviceFor(code int) string {
	switch code {
	case codeNoMemory:
		return "give the device less to hold at once, or end what else uses it"
	case 3, 500: // not initialized, not found: calls that the driver does not have
		return "the driver lacks this function; install a newer one"
	case 34, 803, 804: // a stub of the driver, one of another version than its kernel module, one that does not fit the device
		return "the driver does not fit; reinstall it, and restart the machine after an upgrade"
	case 46, 802: // device unavailable, system not ready
		return "the device is not ready or another process holds it; see nvidia-smi"
	case 214, 220: // memory or links with errors that cannot be corrected
		return "the device reports a hardware error; see dmesg"
	case 209, 218, 221, 222, 300: // PTX that the driver does not take
		return "the driver does not take the kernels of this program; install one of CUDA 11.8 or newer"
	case 700, 702, 710, 714, 715, 716, 717, 718, 719: // a kernel that went wrong
		return "a kernel failed, perhaps an earlier one; the program has to be started again"
	}
	return ""
}

// failed is the error of a call of gorgonia.org/cu, nil where it succeeded.
func failed(op string, err error, detail string) error {
	if err == nil {
		return nil
	}
	code := -1
	if v := reflect.ValueOf(err); v.CanInt() { // its type, an int, has no exported name
		code = int(v.Int())
	}
	return &Error{Op: op, Code: code, Detail: detail}
}
