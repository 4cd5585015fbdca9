package gguf

import "golang.org/x/sys/unix"

// Prefetch asks the operating system to read the data of tensors into its page cache. Names that are not here are passed over.
func (m *File) Prefetch(names []string) {
	for _, name := range names {
		if i, ok := m.index[name]; ok {
			w := m.where[i]
			_ = unix.Fadvise(int(w.part.f.Fd()), w.offset, w.size, unix.FADV_WILLNEED) // a hint that may be refused
		}
	}
}
