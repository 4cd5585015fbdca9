#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "machine.h"

namespace emu {

static void say(const char *format, va_list list) {
	char text[600];
	vsnprintf(text, sizeof text, format, list);
	fflush(stdout);
	if (!machine || !here) {
		fprintf(stderr, "emu: %s\n", text);
		return;
	}
	const Dim &b = here->block->index, &t = here->thread;
	fprintf(stderr, "emu: kernel %s, block (%u,%u,%u), thread %d (%u,%u,%u): %s\n", machine->launch().kernel->name, b.x, b.y, b.z,
	        here->number, t.x, t.y, t.z, text);
}

void fail(const char *format, ...) {
	va_list list;
	va_start(list, format);
	say(format, list);
	va_end(list);
	abort();
}

void complain(const char *format, ...) {
	va_list list;
	va_start(list, format);
	say(format, list);
	va_end(list);
}

} // namespace emu
