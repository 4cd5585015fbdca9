// Writes what ggml makes of values.f32 in every block type. Link with ggml-base: see README.md.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ggml.h"

enum { ROWS = 8, ROW = 512, VALUES = ROWS * ROW };

static const struct { enum ggml_type type; const char *name; int search; } types[] = {
    {GGML_TYPE_Q4_0, "Q4_0", 1}, {GGML_TYPE_Q4_1, "Q4_1", 1}, {GGML_TYPE_Q5_0, "Q5_0", 1}, {GGML_TYPE_Q5_1, "Q5_1", 1},
    {GGML_TYPE_Q8_0, "Q8_0", 0}, {GGML_TYPE_Q2_K, "Q2_K", 0}, {GGML_TYPE_Q3_K, "Q3_K", 0}, {GGML_TYPE_Q4_K, "Q4_K", 1},
    {GGML_TYPE_Q5_K, "Q5_K", 1}, {GGML_TYPE_Q6_K, "Q6_K", 1}, {GGML_TYPE_MXFP4, "MXFP4", 0}, {GGML_TYPE_NVFP4, "NVFP4", 0},
};

static void read_floats(const char *path, float *dst, size_t n) {
    FILE *f = fopen(path, "rb");
    if (!f || fread(dst, 4, n, f) != n) { perror(path); exit(1); }
    fclose(f);
}

static void write_bytes(const char *name, const char *suffix, const void *p, size_t n) {
    char path[64];
    snprintf(path, sizeof path, "%s%s", name, suffix);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n) { perror(path); exit(1); }
    fclose(f);
}

static unsigned long long fnv(const void *p, size_t n) {
    unsigned long long h = 0xcbf29ce484222325ULL;
    for (const unsigned char *b = p; n--; b++) h = (h ^ *b) * 0x100000001b3ULL;
    return h;
}

int main(void) {
    static float values[VALUES], importance[ROW], back[VALUES];
    static char out[4 * VALUES];
    read_floats("values.f32", values, VALUES);
    read_floats("importance.f32", importance, ROW);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        size_t n = ggml_quantize_chunk(types[i].type, values, out, 0, ROWS, ROW, NULL);
        write_bytes(types[i].name, ".bin", out, n);
        ggml_get_type_traits(types[i].type)->to_float(out, back, VALUES);
        printf("%s: 0x%016llx,\n", types[i].name, fnv(back, sizeof back));
        if (!types[i].search) continue;
        n = ggml_quantize_chunk(types[i].type, values, out, 0, ROWS, ROW, importance);
        write_bytes(types[i].name, ".importance.bin", out, n);
    }
    return 0;
}
