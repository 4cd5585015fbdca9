// Asynchronous copies from global to shared memory (PTX ISA, cp.async). A copy may land at any time between its start and the wait
// for it: what is read in between is NaN, and what nobody waits for stays so.
#include <string.h>

#include "machine.h"

namespace emu {

void copy16(void *shared, const void *global, int bytes) {
	if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) fail("copy16_async from %p to %p: not aligned to 16 bytes", global, shared);
	if (bytes != 0 && bytes != 16) fail("copy16_async of %d bytes", bytes);
	if (!machine->is_shared(shared, 16)) fail("copy16_async to %p, which is not in shared memory", shared);
	Thread &t = machine->thread();
	note_access(shared, 16, true);
	memset(shared, 0xff, 16);
	t.copies.push_back(Copy{shared, global, bytes, t.group});
}

void copy_group() { machine->thread().group++; }

void copy_finish(int n) {
	Thread &t = machine->thread();
	size_t kept = 0;
	for (const Copy &c : t.copies) {
		if (c.group >= t.group - n) {
			t.copies[kept++] = c;
			continue;
		}
		note_access(c.shared, 16, true);
		if (c.bytes) {
			note_access(c.global, 16, false);
			memcpy(c.shared, c.global, 16);
		} else {
			memset(c.shared, 0, 16);
		}
	}
	t.copies.resize(kept);
}

} // namespace emu
