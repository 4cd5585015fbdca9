#include "settings.h"

#include <stdlib.h>
#include <string.h>

#include <map>
#include <string>

namespace emu {

int64_t number_setting(const char *name, int64_t fallback) {
	const char *text = getenv(name);
	if (!text || !*text) return fallback;
	char *end;
	int64_t n = strtoll(text, &end, 10);
	if (*end) fail("%s=%s is no number", name, text);
	return n;
}

// seed_of reads "random:SEED".
static bool seed_of(const char *text, uint64_t &seed) {
	if (strncmp(text, "random:", 7)) return false;
	char *end;
	seed = strtoull(text + 7, &end, 10);
	return end != text + 7 && !*end;
}

Schedule schedule_setting() {
	Schedule s;
	const char *text = getenv("MODELPRESS_EMU_SCHEDULE");
	if (!text || !*text || !strcmp(text, "up")) return s;
	if (!strcmp(text, "down")) {
		s.kind = Schedule::down;
	} else if (seed_of(text, s.seed)) {
		s.kind = Schedule::random;
	} else {
		fail("MODELPRESS_EMU_SCHEDULE=%s is not up, down or random:SEED", text);
	}
	return s;
}

Streams streams_setting(uint64_t &seed) {
	const char *text = getenv("MODELPRESS_EMU_STREAMS");
	if (!text || !*text || !strcmp(text, "lazy")) return Streams::lazy;
	if (!strcmp(text, "ahead")) return Streams::ahead;
	if (!strcmp(text, "eager")) return Streams::eager;
	if (seed_of(text, seed)) return Streams::random;
	fail("MODELPRESS_EMU_STREAMS=%s is not lazy, ahead, eager or random:SEED", text);
}

int fault(const char *kind) {
	static std::string last;
	static std::map<std::string, int> calls;
	const char *value = getenv("MODELPRESS_EMU_FAIL");
	std::string text = value ? value : "";
	if (text != last) {
		last = text;
		calls.clear();
	}
	if (text.empty()) return 0;
	int n = ++calls[kind];
	for (size_t at = 0; at < text.size();) {
		size_t end = text.find(',', at);
		if (end == std::string::npos) end = text.size();
		std::string item = text.substr(at, end - at);
		at = end + 1;
		size_t a = item.find(':'), b = item.rfind(':');
		if (a == std::string::npos || a == b) fail("MODELPRESS_EMU_FAIL=%s is no list of KIND:N:CODE", text.c_str());
		if (item.substr(0, a) == kind && atoi(item.c_str() + a + 1) == n) return atoi(item.c_str() + b + 1);
	}
	return 0;
}

} // namespace emu
