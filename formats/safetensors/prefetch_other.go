//go:build !linux

package safetensors

// Prefetch does nothing where the operating system takes no such hint.
func (r *File) Prefetch([]string) {}
