// The state of the emulated driver. All of it is used with its mutex held.
#pragma once
// The calls of the driver are what this library exports.
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "machine.h"
#include "settings.h"

namespace emu {

struct Stream;

// Point is a place in the work of a stream: when the first number pieces of it are done.
struct Point {
	std::shared_ptr<Stream> stream;
	uint64_t number = 0;
	bool reached() const;
};

// Work is what a stream does at once, after some points. A result other than 0 breaks the context.
struct Work {
	std::string name;
	std::function<int()> run;
	std::vector<Point> after;
};

// Stream is a queue of work.
struct Stream {
	std::deque<Work> queue;
	uint64_t done = 0;
	bool blocking = true; // ordered with the null stream
	uint64_t issued() const { return done + queue.size(); }
};

struct Event {
	Point at;
	bool recorded = false, timing = true;
	std::shared_ptr<double> time = std::make_shared<double>(0);
};

struct Context {
	int device = 0;
	int references = 0;
	bool primary = false;
};

// Library is the kernels of one source.
struct Library {
	std::string path;
	char *(*anchor)() = nullptr;
	std::vector<Kernel> kernels;
	std::vector<std::pair<std::string, int>> bounds;
	const Kernel *find(const std::string &name) const;
};

// Entry is a kernel as PTX has it.
struct Entry {
	std::string name;
	std::vector<std::string> parameters; // u64, f32 and so on
	int max_threads = 0;                 // 0 for no bound
	int shared = 0;                      // bytes of variables in shared memory
};

struct Module;

struct Function {
	Module *module;
	Entry entry;
	const Library *library;
	const Kernel *kernel;
	int dynamic = 48 << 10; // most that it may be launched with
};

struct Module {
	std::vector<std::unique_ptr<Function>> functions;
};

// parse_ptx reads the entries of PTX. It returns a reason where the text is none.
std::string parse_ptx(const std::string &text, std::vector<Entry> &entries);

struct Driver {
	std::recursive_mutex mutex;
	bool initialized = false;
	int broken = 0; // what all calls return
	std::vector<std::unique_ptr<Context>> primaries;
	std::set<Context *> contexts;
	std::vector<std::shared_ptr<Stream>> streams; // in the order in which they were made
	std::set<Event *> events;
	std::set<Module *> modules;
	std::shared_ptr<Stream> null = std::make_shared<Stream>();
	uint64_t seed = 0;
	Random random{0};

	// find returns the stream of a handle, null for none.
	std::shared_ptr<Stream> find(CUstream handle);
	// push queues work and returns the point at which it is done.
	Point push(const std::shared_ptr<Stream> &s, Work work);
	// reach runs what has to be done for a point, and all runs everything.
	void reach(const Point &p);
	void all();
	// stir lets streams go on as the setting says.
	void stir();
	void step(Stream &s);
	void run_others(const Stream *but);
};

Driver &driver();

// current is the stack of contexts of this thread of the system.
extern thread_local std::vector<Context *> current;

// api runs the body of a call with the mutex held.
enum Needs { nothing, initialization, context };

template <class F>
CUresult api(Needs needs, F body) {
	Driver &d = driver();
	std::lock_guard<std::recursive_mutex> lock(d.mutex);
	if (needs >= initialization && !d.initialized) return CUDA_ERROR_NOT_INITIALIZED;
	if (needs >= context && (current.empty() || !current.back())) return CUDA_ERROR_INVALID_CONTEXT;
	if (needs >= context && d.broken) return (CUresult)d.broken;
	if (needs >= context) d.stir();
	CUresult result = body();
	return needs >= context && result == CUDA_SUCCESS && d.broken ? (CUresult)d.broken : result;
}

// is_sticky reports whether a result of work leaves a context that gives nothing else from then on.
bool is_sticky(int code);

// libraries are the kernels that stand beside this library.
const std::vector<std::unique_ptr<Library>> &libraries();

} // namespace emu
