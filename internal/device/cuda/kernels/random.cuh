// Random numbers by counter: number i of a stream is a function of the stream and of i.
#pragma once
#include "common.cuh"

const uint64_t GAMMA = 0x9e3779b97f4a7c15ull; // the increment of splitmix64

// mix64 is the output function of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
DEVICE uint64_t mix64(uint64_t x) {
	x += GAMMA;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}
