// Runs a GGUF file through llama.cpp on token ids and prints how well it predicts them:
//
//	logits MODEL.gguf IDS WINDOW THREADS [OUT]
//
// IDS is a file of little-endian 32-bit token ids, windows of WINDOW ids one after the other. Every window runs on its own
// from its first position, and each of its first WINDOW-1 positions predicts the next token. The one line on stdout has
// the perplexity, the mean negative log-likelihood in nats, the number of predictions, the vocabulary and the number of
// windows. OUT receives the logits of all positions, [windows, WINDOW, vocabulary] little-endian 32-bit floats.
//
// All that llama.cpp may do to save time at the cost of values is off: keys and values are kept in f32, attention is not
// fused, weights stay as they are in the file. What is left is how it multiplies: by quantized weights it multiplies
// activations that it rounds to 8 bits, by F16 and BF16 weights activations that it rounds to those.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void fail(const std::string &what) {
	fprintf(stderr, "logits: %s\n", what.c_str());
	exit(1);
}

int number(const char *text, const char *what, long most) {
	char *end = nullptr;
	long n = strtol(text, &end, 10);
	if (*text == 0 || *end != 0 || n < 1 || n > most) {
		fail(std::string(what) + " " + text + " is not a number from 1 to " + std::to_string(most));
	}
	return (int)n;
}

std::vector<int32_t> readIDs(const char *path) {
	FILE *f = fopen(path, "rb");
	if (f == nullptr) {
		fail(std::string(path) + ": cannot be opened");
	}
	std::vector<int32_t> ids;
	unsigned char b[4];
	size_t got;
	while ((got = fread(b, 1, 4, f)) == 4) {
		ids.push_back((int32_t)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24));
	}
	if (got != 0 || ferror(f)) {
		fail(std::string(path) + ": does not hold whole 32-bit ids");
	}
	fclose(f);
	return ids;
}

// quiet keeps warnings and errors of llama.cpp.
void quiet(ggml_log_level level, const char *text, void *) {
	if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
		fputs(text, stderr);
	}
}

// surprise is the negative log-likelihood of one token, in nats.
double surprise(const float *logits, int vocabulary, int32_t token) {
	double top = logits[0], sum = 0;
	for (int i = 1; i < vocabulary; i++) {
		top = std::fmax(top, logits[i]);
	}
	for (int i = 0; i < vocabulary; i++) {
		sum += std::exp(logits[i] - top);
	}
	return std::log(sum) + top - logits[token];
}

// run decodes one window and returns the sum of its surprises.
double run(llama_context *ctx, llama_batch &batch, const int32_t *ids, int n, int vocabulary, FILE *out) {
	llama_memory_clear(llama_get_memory(ctx), true);
	batch.n_tokens = n;
	for (int i = 0; i < n; i++) {
		batch.token[i] = ids[i];
		batch.pos[i] = i;
		batch.n_seq_id[i] = 1;
		batch.seq_id[i][0] = 0;
		batch.logits[i] = 1;
	}
	if (llama_decode(ctx, batch) != 0) {
		fail("a window cannot be decoded");
	}
	double sum = 0;
	for (int i = 0; i < n; i++) {
		const float *logits = llama_get_logits_ith(ctx, i);
		if (logits == nullptr) {
			fail("a position has no logits");
		}
		if (i + 1 < n) {
			sum += surprise(logits, vocabulary, ids[i + 1]);
		}
		if (out != nullptr && fwrite(logits, sizeof(float), vocabulary, out) != (size_t)vocabulary) {
			fail("the logits cannot be written");
		}
	}
	return sum;
}

}  // namespace

int main(int argc, char **argv) {
	if (argc != 5 && argc != 6) {
		fail("usage: logits MODEL.gguf IDS WINDOW THREADS [OUT]");
	}
	int n = number(argv[3], "window", 1 << 20), threads = number(argv[4], "threads", 1024);
	std::vector<int32_t> ids = readIDs(argv[2]);
	if (n < 2 || ids.empty() || ids.size() % n != 0) {
		fail(std::to_string(ids.size()) + " ids are no windows of " + std::to_string(n));
	}
	llama_log_set(quiet, nullptr);
	llama_backend_init();

	llama_model_params mp = llama_model_default_params();
	mp.n_gpu_layers = 0;
	mp.use_extra_bufts = false;
	mp.check_tensors = true;
	llama_model *model = llama_model_load_from_file(argv[1], mp);
	if (model == nullptr) {
		fail(std::string(argv[1]) + ": cannot be loaded");
	}
	int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
	for (int32_t id : ids) {
		if (id < 0 || id >= vocabulary) {
			fail("token " + std::to_string(id) + " is not in a vocabulary of " + std::to_string(vocabulary));
		}
	}

	llama_context_params cp = llama_context_default_params();
	cp.n_ctx = cp.n_batch = cp.n_ubatch = n;
	cp.n_seq_max = 1;
	cp.n_threads = cp.n_threads_batch = threads;
	cp.type_k = cp.type_v = GGML_TYPE_F32;
	cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
	cp.swa_full = true;
	cp.no_perf = true;
	llama_context *ctx = llama_init_from_model(model, cp);
	if (ctx == nullptr) {
		fail(std::string(argv[1]) + ": no context");
	}

	FILE *out = nullptr;
	if (argc == 6 && (out = fopen(argv[5], "wb")) == nullptr) {
		fail(std::string(argv[5]) + ": cannot be created");
	}
	llama_batch batch = llama_batch_init(n, 0, 1);
	double sum = 0;
	for (size_t at = 0; at < ids.size(); at += n) {
		sum += run(ctx, batch, &ids[at], n, vocabulary, out);
	}
	if (out != nullptr && fclose(out) != 0) {
		fail("the logits cannot be written");
	}
	size_t windows = ids.size() / n, predictions = windows * (n - 1);
	printf("%.6f %.9f %zu %d %zu\n", std::exp(sum / predictions), sum / predictions, predictions, vocabulary, windows);
	llama_batch_free(batch);
	llama_free(ctx);
	llama_model_free(model);
	llama_backend_free();
	return 0;
}
