// Faults of kernels: a touch of memory that is not there ends the process with a message, as everything else that is wrong.
#include <signal.h>
#include <stdlib.h>

#include "machine.h"
#include "memory.h"

namespace emu {

static struct sigaction before[65];

static void caught(int signal, siginfo_t *info, void *context) {
	if (machine && here) {
		char where[200];
		long behind = machine->behind_shared(info->si_addr);
		if (behind >= 0) fail("touches byte %ld of %d bytes of dynamic shared memory", behind, machine->launch().shared);
		if (signal == SIGSEGV || signal == SIGBUS) fail("touches %s", describe(info->si_addr, where, sizeof where));
		fail("signal %d", signal);
	}
	// Not a kernel's: what was there before goes on with it.
	const struct sigaction &old = before[signal];
	if (old.sa_flags & SA_SIGINFO) {
		old.sa_sigaction(signal, info, context);
	} else if (old.sa_handler == SIG_DFL || old.sa_handler == SIG_IGN) {
		sigaction(signal, &old, nullptr); // the fault comes again
	} else {
		old.sa_handler(signal);
	}
}

void catch_signals() {
	for (int s : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
		sigaction(s, nullptr, &before[s]);
		struct sigaction a = before[s];
		a.sa_sigaction = caught;
		a.sa_flags = SA_SIGINFO | SA_ONSTACK | (before[s].sa_flags & SA_NODEFER);
		if (!(before[s].sa_flags & SA_SIGINFO)) sigemptyset(&a.sa_mask);
		sigaction(s, &a, nullptr);
	}
}

} // namespace emu
