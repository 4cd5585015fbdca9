// The threads of the system that machines run on.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "machine.h"

namespace emu {

namespace {

struct Pool {
	std::mutex mutex;
	std::condition_variable work, done;
	const Launch *launch = nullptr;
	uint64_t total = 0;
	std::atomic<uint64_t> next{0};
	int threads = 0, wanted = 0, busy = 0;
	uint64_t round = 0;
};

Pool &pool() {
	static Pool *p = new Pool; // never destroyed: its threads run until the process ends
	return *p;
}

// number_of is the block that comes n-th. A random order is n times a number without a factor in common with the total.
uint64_t number_of(const Launch &l, uint64_t n, uint64_t total) {
	if (l.schedule.kind == Schedule::up) return n;
	if (l.schedule.kind == Schedule::down) return total - 1 - n;
	uint64_t step = Random(l.schedule.seed).next() % total | 1;
	auto gcd = [](uint64_t a, uint64_t b) {
		while (b) {
			uint64_t r = a % b;
			a = b;
			b = r;
		}
		return a;
	};
	while (gcd(step, total) != 1) step++;
	return (uint64_t)((unsigned __int128)n * step % total);
}

void run_blocks(Machine &m, const Launch &l, Pool &p) {
	for (;;) {
		uint64_t n = p.next.fetch_add(1);
		if (n >= p.total) return;
		uint64_t i = number_of(l, n, p.total);
		m.run(l, Dim{(unsigned)(i % l.count.x), (unsigned)(i / l.count.x % l.count.y), (unsigned)(i / l.count.x / l.count.y)});
	}
}

// Signals of the host program are none of these threads' business, but for those of errors.
void block_signals() {
	sigset_t set;
	sigfillset(&set);
	for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&set, s);
	pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

void *work(void *number) {
	block_signals();
	Pool &p = pool();
	Machine m;
	uint64_t seen = 0;
	std::unique_lock<std::mutex> lock(p.mutex);
	for (;;) {
		p.work.wait(lock, [&] { return p.round != seen && (long)number < p.wanted; });
		seen = p.round;
		const Launch *l = p.launch;
		lock.unlock();
		run_blocks(m, *l, p);
		lock.lock();
		if (--p.busy == 0) p.done.notify_all();
	}
}

} // namespace

void run_launch(const Launch &launch, int workers) {
	Pool &p = pool();
	std::unique_lock<std::mutex> lock(p.mutex);
	p.total = (uint64_t)launch.count.x * launch.count.y * launch.count.z;
	if ((uint64_t)workers > p.total) workers = (int)p.total;
	while (p.threads < workers) {
		pthread_attr_t attributes;
		pthread_attr_init(&attributes);
		pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		pthread_t thread;
		int code = pthread_create(&thread, &attributes, work, reinterpret_cast<void *>((long)p.threads));
		pthread_attr_destroy(&attributes);
		if (code) fail("no thread: error %d", code);
		p.threads++;
	}
	p.launch = &launch;
	p.next = 0;
	p.wanted = p.busy = workers;
	p.round++;
	p.work.notify_all();
	p.done.wait(lock, [&] { return p.busy == 0; });
	p.wanted = 0;
}

} // namespace emu
