package emu

import "testing"

func TestLibraries(t *testing.T) {
	for _, test := range []string{"products", "refusals", "conversions"} {
		pass(t, "libraries", test)
	}
	stops(t, "libraries", "outside", `emu: cublasGemmEx: A wants 400 bytes of the device at address 0x\w+, byte 4 of an allocation of 400`)
}
