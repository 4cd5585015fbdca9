#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <deque>
#include <map>

#include "settings.h"

namespace emu {

namespace {

const size_t page = 4096, piece = 4 << 20, alignment = 512;

struct Allocation {
	size_t bytes;
	char *map; // pages, with one more on either side
	size_t map_bytes;
	char *shadow = nullptr;
	size_t shadow_bytes = 0;
};

struct Table {
	std::map<uintptr_t, Allocation> device;
	std::map<uintptr_t, std::pair<size_t, bool>> pinned; // bytes, and whether it is ours
	std::deque<std::pair<char *, size_t>> freed;         // pages that nobody may touch
	size_t used = 0;
};

Table &table() {
	static Table *t = new Table;
	return *t;
}

size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// ones is a file of one piece full of ones, from which large allocations are mapped: their pages cost nothing until they are written.
int ones() {
	static int file = -1;
	if (file >= 0) return file;
	file = memfd_create("ones", MFD_CLOEXEC);
	if (file < 0 || ftruncate(file, piece)) fail("no memory for a file");
	void *p = mmap(nullptr, piece, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (p == MAP_FAILED) fail("no memory for a file");
	memset(p, 0xff, piece);
	munmap(p, piece);
	return file;
}

bool fill(char *p, size_t bytes) {
	if (bytes < piece) {
		memset(p, 0xff, bytes);
		return true;
	}
	for (size_t at = 0; at < bytes; at += piece) {
		size_t n = bytes - at < piece ? bytes - at : piece;
		if (mmap(p + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, ones(), 0) == MAP_FAILED) return false;
	}
	return true;
}

// bury gives the memory of pages back and keeps their addresses, the last thousand times that it is called.
void bury(char *p, size_t bytes) {
	if (mmap(p, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) fail("memory cannot be freed");
	auto &list = table().freed;
	list.emplace_back(p, bytes);
	if (list.size() <= 1000) return;
	munmap(list.front().first, list.front().second);
	list.pop_front();
}

void check(uintptr_t at, const Allocation &a) {
	const char *p = reinterpret_cast<const char *>(at);
	for (const char *c = a.map; c < p; c++)
		if (*c != (char)0xff) fail("%ld bytes before an allocation of %zu bytes written", (long)(p - c), a.bytes);
	for (const char *c = p + a.bytes; c < a.map + a.map_bytes; c++)
		if (*c != (char)0xff) fail("%ld bytes behind an allocation of %zu bytes written", (long)(c - p - a.bytes), a.bytes);
}

} // namespace

size_t total_memory() { return (size_t)number_setting("MODELPRESS_EMU_MEMORY", 2ll << 30); }

size_t free_memory() {
	size_t total = total_memory(), used = table().used;
	return used < total ? total - used : 0;
}

void *allocate(size_t bytes) {
	size_t charged = up(bytes, alignment);
	if (bytes == 0 || charged < bytes || charged > free_memory()) return nullptr;
	size_t map_bytes = up(charged, page);
	void *m = mmap(nullptr, map_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED) return nullptr;
	char *map = static_cast<char *>(m) + page;
	if (mprotect(map, map_bytes, PROT_READ | PROT_WRITE) || !fill(map, map_bytes)) {
		munmap(m, map_bytes + 2 * page);
		return nullptr;
	}
	char *p = map + map_bytes - charged;
	table().device[(uintptr_t)p] = Allocation{bytes, map, map_bytes, nullptr, 0};
	table().used += charged;
	return p;
}

bool release(void *p) {
	auto i = table().device.find((uintptr_t)p);
	if (i == table().device.end()) return false;
	check(i->first, i->second);
	bury(i->second.map - page, i->second.map_bytes + 2 * page);
	if (i->second.shadow) munmap(i->second.shadow, i->second.shadow_bytes);
	table().used -= up(i->second.bytes, alignment);
	table().device.erase(i);
	return true;
}

void check_memory() {
	for (auto &a : table().device) check(a.first, a.second);
}

bool in_device(const void *p, size_t n, void **start, size_t *bytes) {
	auto i = table().device.upper_bound((uintptr_t)p);
	if (i == table().device.begin()) return false;
	--i;
	uintptr_t offset = (uintptr_t)p - i->first;
	if (offset > i->second.bytes || n > i->second.bytes - offset) return false;
	if (start) *start = reinterpret_cast<void *>(i->first);
	if (bytes) *bytes = i->second.bytes;
	return true;
}

void *shadow(const void *p, size_t n, size_t size) {
	auto i = table().device.upper_bound((uintptr_t)p);
	if (i == table().device.begin()) return nullptr;
	--i;
	Allocation &a = i->second;
	uintptr_t offset = (uintptr_t)p - i->first;
	if (offset > a.bytes || n > a.bytes - offset) return nullptr;
	if (!a.shadow) {
		a.shadow_bytes = a.bytes * size;
		void *m = mmap(nullptr, a.shadow_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (m == MAP_FAILED) fail("no memory to find races in %zu bytes", a.bytes);
		a.shadow = static_cast<char *>(m);
	}
	return a.shadow + offset * size;
}

const char *describe(const void *p, char *text, size_t size) {
	snprintf(text, size, "address %p", p);
	for (auto &f : table().freed)
		if (p >= f.first && p < f.first + f.second) {
			snprintf(text, size, "address %p, in memory that has been freed", p);
			return text;
		}
	auto i = table().device.upper_bound((uintptr_t)p);
	long behind = -1, before = -1;
	size_t bytes = 0, next = 0;
	if (i != table().device.end()) {
		before = (long)(i->first - (uintptr_t)p);
		next = i->second.bytes;
	}
	if (i != table().device.begin()) {
		--i;
		behind = (long)((uintptr_t)p - i->first - i->second.bytes);
		bytes = i->second.bytes;
		if (behind < 0) {
			snprintf(text, size, "address %p, byte %ld of an allocation of %zu", p, behind + (long)bytes, bytes);
			return text;
		}
	}
	const long near = 64 << 20;
	if (behind >= 0 && behind < near && (before < 0 || behind <= before)) {
		snprintf(text, size, "address %p, %ld bytes behind the end of an allocation of %zu", p, behind, bytes);
	} else if (before > 0 && before < near && (behind < 0 || before < behind)) {
		snprintf(text, size, "address %p, %ld bytes before an allocation of %zu", p, before, next);
	}
	return text;
}

void *allocate_pinned(size_t bytes) {
	void *p = nullptr;
	if (bytes == 0 || posix_memalign(&p, page, bytes)) return nullptr;
	memset(p, 0xff, bytes);
	table().pinned[(uintptr_t)p] = {bytes, true};
	return p;
}

bool release_pinned(void *p) {
	auto i = table().pinned.find((uintptr_t)p);
	if (i == table().pinned.end() || !i->second.second) return false;
	memset(p, 0xff, i->second.first);
	free(p);
	table().pinned.erase(i);
	return true;
}

bool register_pinned(void *p, size_t bytes) {
	if (bytes == 0 || is_pinned(p, 1)) return false;
	table().pinned[(uintptr_t)p] = {bytes, false};
	return true;
}

bool unregister_pinned(void *p) {
	auto i = table().pinned.find((uintptr_t)p);
	if (i == table().pinned.end() || i->second.second) return false;
	table().pinned.erase(i);
	return true;
}

bool is_pinned(const void *p, size_t n) {
	auto i = table().pinned.upper_bound((uintptr_t)p);
	if (i == table().pinned.begin()) return false;
	--i;
	uintptr_t offset = (uintptr_t)p - i->first;
	return offset <= i->second.first && n <= i->second.first - offset;
}

} // namespace emu
