//go:build amd64 && !noasm && !linux

package num

// amxAllowed: only on Linux it is known how to ask for the tile registers.
func amxAllowed() bool { return false }
