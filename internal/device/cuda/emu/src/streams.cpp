// How streams run.
#include <stdio.h>
#include <stdlib.h>

#include "driver.h"
#include "memory.h"

namespace emu {

thread_local std::vector<Context *> current;

Driver &driver() {
	static Driver *d = new Driver;
	return *d;
}

bool is_sticky(int code) {
	return code == CUDA_ERROR_ILLEGAL_ADDRESS || code == CUDA_ERROR_LAUNCH_TIMEOUT || code == CUDA_ERROR_ECC_UNCORRECTABLE ||
	       (code >= CUDA_ERROR_HARDWARE_STACK_ERROR && code <= CUDA_ERROR_LAUNCH_FAILED);
}

bool Point::reached() const { return !stream || stream->done >= number; }

std::shared_ptr<Stream> Driver::find(CUstream handle) {
	if (!handle || handle == CU_STREAM_LEGACY) return null;
	for (auto &s : streams)
		if (s.get() == reinterpret_cast<Stream *>(handle)) return s;
	return nullptr;
}

// The null stream waits for all blocking ones, and they for it (CUDA C++ Programming Guide, "Implicit Synchronization").
Point Driver::push(const std::shared_ptr<Stream> &s, Work work) {
	if (s == null) {
		for (auto &o : streams)
			if (o->blocking && !o->queue.empty()) work.after.push_back(Point{o, o->issued()});
	} else if (s->blocking && !null->queue.empty()) {
		work.after.push_back(Point{null, null->issued()});
	}
	s->queue.push_back(std::move(work));
	Point p{s, s->issued()};
	uint64_t unused;
	if (streams_setting(unused) == Streams::eager) reach(p);
	return p;
}

// step does the first work of a stream.
void Driver::step(Stream &s) {
	Work w = std::move(s.queue.front());
	s.queue.pop_front();
	static const bool trace = getenv("MODELPRESS_EMU_TRACE");
	if (trace) fprintf(stderr, "emu: stream %p: %s\n", (void *)&s, w.name.c_str());
	if (!broken) {
		int code = w.run();
		if (code && !broken) broken = code;
	}
	s.done++;
}

static bool ready(const Stream &s) {
	if (s.queue.empty()) return false;
	for (auto &p : s.queue.front().after)
		if (!p.reached()) return false;
	return true;
}

void Driver::run_others(const Stream *but) {
	std::vector<std::shared_ptr<Stream>> all = streams;
	all.push_back(null);
	for (bool more = true; more;) {
		more = false;
		for (auto &s : all) {
			while (s.get() != but && ready(*s)) {
				step(*s);
				more = true;
			}
		}
	}
}

void Driver::reach(const Point &p) {
	uint64_t unused;
	if (streams_setting(unused) == Streams::ahead && !p.reached()) run_others(p.stream.get());
	std::vector<Point> open = {p};
	while (!open.empty()) {
		Point top = open.back();
		if (top.reached()) {
			open.pop_back();
			continue;
		}
		bool waits = false;
		for (auto &before : top.stream->queue.front().after) {
			if (before.reached()) continue;
			open.push_back(before);
			waits = true;
			break;
		}
		if (!waits) step(*top.stream);
	}
}

void Driver::all() {
	std::vector<std::shared_ptr<Stream>> list = streams;
	list.push_back(null);
	for (auto &s : list) reach(Point{s, s->issued()});
	check_memory();
}

void Driver::stir() {
	uint64_t now = seed;
	if (streams_setting(now) != Streams::random) return;
	if (now != seed) {
		seed = now;
		random = Random(seed);
	}
	std::vector<std::shared_ptr<Stream>> list = streams;
	list.push_back(null);
	for (int n = random.below(4); n > 0; n--) {
		Stream &s = *list[random.below((uint32_t)list.size())];
		if (ready(s)) step(s);
	}
}

} // namespace emu
