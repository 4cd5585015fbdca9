//go:build !unix

package main

// processorSeconds returns 0: this system does not tell.
func processorSeconds() float64 { return 0 }
