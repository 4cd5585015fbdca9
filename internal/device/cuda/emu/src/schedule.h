// The order in which things that could run do run.
#pragma once
#include <stdint.h>

namespace emu {

// Random is xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Random {
	uint64_t state;
	explicit Random(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u + 0x1234567) {}
	uint32_t next() {
		state ^= state >> 12;
		state ^= state << 25;
		state ^= state >> 27;
		return (uint32_t)(state * 0x2545f4914f6cdd1du >> 32);
	}
	// below returns a number below n.
	uint32_t below(uint32_t n) { return (uint32_t)((uint64_t)next() * n >> 32); }
};

// Schedule is up (lowest number first), down, or random by a seed.
struct Schedule {
	enum Kind { up, down, random } kind = up;
	uint64_t seed = 0;


};

// Set is a set of numbers below 1024.
class Set {
public:
	void clear() {
		for (auto &w : words) w = 0;
	}
	void add(int i) { words[i / 64] |= 1ull << (i % 64); }
	// add takes n numbers from i on, a multiple of 64; add_lanes those of a mask, from a multiple of 32 on.
	void add(int i, int n) {
		for (; n >= 64; i += 64, n -= 64) words[i / 64] = ~0ull;
		if (n > 0) words[i / 64] |= (1ull << n) - 1;
	}
	void add_lanes(int i, unsigned mask) { words[i / 64] |= (uint64_t)mask << (i % 64); }
	void remove(int i) { words[i / 64] &= ~(1ull << (i % 64)); }
	// first and last return -1 for the empty set; from returns the first at or after i, going round.
	int first() const {
		for (int w = 0; w < 16; w++)
			if (words[w]) return 64 * w + __builtin_ctzll(words[w]);
		return -1;
	}
	int last() const {
		for (int w = 15; w >= 0; w--)
			if (words[w]) return 64 * w + 63 - __builtin_clzll(words[w]);
		return -1;
	}
	int from(int i) const {
		uint64_t rest = words[i / 64] >> (i % 64);
		if (rest) return i + __builtin_ctzll(rest);
		for (int w = i / 64 + 1; w < 16; w++)
			if (words[w]) return 64 * w + __builtin_ctzll(words[w]);
		return first();
	}

private:
	uint64_t words[16] = {};
};

} // namespace emu
