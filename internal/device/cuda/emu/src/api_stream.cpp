// Streams and events of the emulated driver.
#include <time.h>

#include "driver.h"
#include "memory.h"

using namespace emu;

static double now() {
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static Event *event(CUevent handle) {
	Event *e = reinterpret_cast<Event *>(handle);
	return driver().events.count(e) ? e : nullptr;
}

// query says whether a point is reached. Asking again and again gets there.
static CUresult query(const Point &p) {
	if (p.reached()) return CUDA_SUCCESS;
	driver().reach(Point{p.stream, p.stream->done + 1});
	return CUDA_ERROR_NOT_READY;
}

extern "C" {

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
	return api(context, [&] {
		if (!stream || flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
		auto s = std::make_shared<Stream>();
		s->blocking = flags != CU_STREAM_NON_BLOCKING;
		driver().streams.push_back(s);
		*stream = reinterpret_cast<CUstream>(s.get());
		return CUDA_SUCCESS;
	});
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }

CUresult cuStreamDestroy(CUstream stream) {
	return api(context, [&] {
		auto s = driver().find(stream);
		if (!s || s == driver().null) return CUDA_ERROR_INVALID_HANDLE;
		driver().reach(Point{s, s->issued()});
		auto &list = driver().streams;
		for (size_t i = 0; i < list.size(); i++)
			if (list[i] == s) list.erase(list.begin() + i--);
		return CUDA_SUCCESS;
	});
}

CUresult cuStreamSynchronize(CUstream stream) {
	return api(context, [&] {
		auto s = driver().find(stream);
		if (!s) return CUDA_ERROR_INVALID_HANDLE;
		// The null stream waits for the blocking ones, though nothing may be queued on it.
		if (s == driver().null) driver().push(s, Work{"synchronize", [] { return 0; }, {}});
		driver().reach(Point{s, s->issued()});
		check_memory();
		return CUDA_SUCCESS;
	});
}

CUresult cuStreamQuery(CUstream stream) {
	return api(context, [&] {
		auto s = driver().find(stream);
		return s ? query(Point{s, s->issued()}) : CUDA_ERROR_INVALID_HANDLE;
	});
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned) {
	return api(context, [&] {
		auto s = driver().find(stream);
		Event *e = event(handle);
		if (!s || !e) return CUDA_ERROR_INVALID_HANDLE;
		// Only the last record before this call counts, and none is none.
		if (e->recorded && !e->at.reached()) driver().push(s, Work{"wait for an event", [] { return 0; }, {e->at}});
		return CUDA_SUCCESS;
	});
}

CUresult cuEventCreate(CUevent *handle, unsigned flags) {
	return api(context, [&] {
		if (!handle) return CUDA_ERROR_INVALID_VALUE;
		auto *e = new Event;
		e->timing = !(flags & CU_EVENT_DISABLE_TIMING);
		driver().events.insert(e);
		*handle = reinterpret_cast<CUevent>(e);
		return CUDA_SUCCESS;
	});
}

CUresult cuEventDestroy(CUevent handle) {
	return api(context, [&] {
		Event *e = event(handle);
		if (!e) return CUDA_ERROR_INVALID_HANDLE;
		driver().events.erase(e);
		delete e;
		return CUDA_SUCCESS;
	});
}

CUresult cuEventRecord(CUevent handle, CUstream stream) {
	return api(context, [&] {
		auto s = driver().find(stream);
		Event *e = event(handle);
		if (!s || !e) return CUDA_ERROR_INVALID_HANDLE;
		auto time = e->time = std::make_shared<double>(0);
		e->at = driver().push(s, Work{"record an event",
		                              [time] {
			                              *time = now();
			                              return 0;
		                              },
		                              {}});
		e->recorded = true;
		return CUDA_SUCCESS;
	});
}

CUresult cuEventSynchronize(CUevent handle) {
	return api(context, [&] {
		Event *e = event(handle);
		if (!e) return CUDA_ERROR_INVALID_HANDLE;
		if (e->recorded) driver().reach(e->at);
		return CUDA_SUCCESS;
	});
}

CUresult cuEventQuery(CUevent handle) {
	return api(context, [&] {
		Event *e = event(handle);
		return e ? query(e->at) : CUDA_ERROR_INVALID_HANDLE;
	});
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to) {
	return api(context, [&] {
		Event *a = event(from), *b = event(to);
		if (!a || !b || !a->recorded || !b->recorded || !a->timing || !b->timing) return CUDA_ERROR_INVALID_HANDLE;
		if (!a->at.reached() || !b->at.reached()) return CUDA_ERROR_NOT_READY;
		*ms = (float)(*b->time - *a->time);
		return CUDA_SUCCESS;
	});
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn f, void *data) {
	return api(context, [&] {
		auto s = driver().find(stream);
		if (!s || !f) return CUDA_ERROR_INVALID_HANDLE;
		driver().push(s, Work{"call the host",
		                      [=] {
			                      f(data);
			                      return 0;
		                      },
		                      {}});
		return CUDA_SUCCESS;
	});
}
}
