package safetensors

import "golang.org/x/sys/unix"

// Prefetch asks the operating system to read the data of tensors into its page cache. Names that are not here are passed
// over.
func (r *File) Prefetch(names []string) {
	for _, name := range names {
		if i, ok := r.index[name]; ok {
			e := r.entries[i]
			_ = unix.Fadvise(int(r.f.Fd()), r.start+e.begin, e.end-e.begin, unix.FADV_WILLNEED) // a hint that may be refused
		}
	}
}
