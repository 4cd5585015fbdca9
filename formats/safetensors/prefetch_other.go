//go:build !linux

package safetensors

// Prefetch does nothing where the operating system takes no such hint.
func (f *File) Prefetch([]string) {}
