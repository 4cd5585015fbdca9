#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"

namespace emu {

void fail(const char *format, ...) {
	char text[600];
	va_list list;
	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	fflush(stdout);
	if (!machine || !here) {
		fprintf(stderr, "emu: %s\n", text);
		abort();
	}
	const Dim &b = here->block->index, &t = here->thread;
	fprintf(stderr, "emu: kernel %s, block (%u,%u,%u), thread %d (%u,%u,%u): %s\n", machine->launch().kernel->name, b.x, b.y, b.z,
	        here->number, t.x, t.y, t.z, text);
	abort();
}

} // namespace emu
