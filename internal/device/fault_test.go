package device

import (
	"errors"
	"io"
	"testing"
)

func TestFault(t *testing.T) {
	err := error(&Fault{Op: "Attention", Err: io.ErrShortBuffer})
	if err.Error() != "device: Attention: short buffer" || !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("%v", err)
	}
	var f *Fault
	if !errors.As(err, &f) || f.Op != "Attention" {
		t.Errorf("%v is no fault", err)
	}
}
