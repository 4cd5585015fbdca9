// The kernels that were built for the host: libraries kernels-NAME.so beside this one.
#include <dirent.h>
#include <dlfcn.h>
#include <string.h>

#include <algorithm>

#include "driver.h"

namespace emu {

static Library *loading;

void add_kernel(const Kernel &k) { loading->kernels.push_back(k); }
void add_bound(const char *name, int threads) { loading->bounds.emplace_back(name, threads); }

const Kernel *Library::find(const std::string &name) const {
	for (auto &k : kernels)
		if (name == k.name) return &k;
	return nullptr;
}

// The directory of this library, with a slash.
static std::string directory() {
	Dl_info info;
	if (!dladdr(reinterpret_cast<void *>(&directory), &info)) fail("where is this library?");
	std::string path = info.dli_fname;
	return path.find('/') == std::string::npos ? "./" : path.substr(0, path.rfind('/') + 1);
}

static std::vector<std::string> paths() {
	std::string dir = directory();
	std::vector<std::string> found;
	DIR *d = opendir(dir.c_str());
	if (!d) return found;
	while (dirent *e = readdir(d)) {
		std::string name = e->d_name;
		if (name.compare(0, 8, "kernels-") == 0 && name.size() > 3 && name.compare(name.size() - 3, 3, ".so") == 0)
			found.push_back(dir + name);
	}
	closedir(d);
	std::sort(found.begin(), found.end());
	return found;
}

static std::vector<std::unique_ptr<Library>> load() {
	std::vector<std::unique_ptr<Library>> list;
	for (auto &path : paths()) {
		list.push_back(std::make_unique<Library>());
		loading = list.back().get();
		loading->path = path;
		void *handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
		if (!handle) fail("%s", dlerror());
		loading->anchor = reinterpret_cast<char *(*)()>(dlsym(handle, "emu_anchor"));
	}
	return list;
}

const std::vector<std::unique_ptr<Library>> &libraries() {
	static const auto *list = new std::vector<std::unique_ptr<Library>>(load());
	return *list;
}

} // namespace emu
