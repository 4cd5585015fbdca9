//go:build cuda

#include "shim.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Where drivers and toolkits put their libraries, besides the places that the dynamic linker knows.
static const char *const usual[] = {
    "/usr/lib/wsl/lib",         "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib",         "/usr/local/cuda/lib64",
    "/usr/local/cuda/compat",   "/opt/cuda/lib64",         "/usr/lib/x86_64-linux-gnu",     "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64/nvidia",        "/usr/lib64",              "/run/opengl-driver/lib",
};

static void *open_path(const char *path, char *text, size_t size) {
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const char *why = library ? path : dlerror();
	snprintf(text, size, "%s", why ? why : "no reason given");
	return library;
}

// open_in opens dir/name. A file that is there and does not open leaves its reason in text; one that is not there leaves text alone.
static void *open_in(const char *dir, size_t length, const char *name, char *text, size_t size) {
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%.*s/%s", (int)length, dir, name);
	if (n < 0 || (size_t)n >= sizeof path) return NULL;
	FILE *f = fopen(path, "rb");
	if (!f) return NULL;
	fclose(f);
	return open_path(path, text, size);
}

void *library_open(const char *name, char *text, size_t size) {
	void *library;
	snprintf(text, size, "no %s in $MODELPRESS_CUDA_PATH", name);
	for (const char *p = getenv("MODELPRESS_CUDA_PATH"); p && *p;) {
		size_t length = strcspn(p, ":");
		if (length == 1 && *p == '-') return NULL;
		if (length > 0 && (library = open_in(p, length, name, text, size))) return library;
		p += length + (p[length] == ':');
	}
	char reason[512];
	if ((library = open_path(name, reason, sizeof reason))) {
		snprintf(text, size, "%s", name);
		return library;
	}
	snprintf(text, size, "%s", reason);
	for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
		if ((library = open_in(usual[i], strlen(usual[i]), name, text, size))) return library;
	}
	return NULL;
}

void *library_symbol(void *library, const char *name) { return dlsym(library, name); }
