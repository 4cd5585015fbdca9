//go:build !linux

package gguf

// Prefetch does nothing where the operating system takes no such hint.
func (m *File) Prefetch([]string) {}
