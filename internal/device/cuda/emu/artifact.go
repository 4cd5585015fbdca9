package emu

import (
	"errors"
	"path/filepath"
	"slices"
)

// artifact is one library: what it is made of, and how.
type artifact struct {
	name     string   // of the file
	sources  []string // that are compiled
	depends  []string // that they include
	flags    []string
	include  []string // directories; their names are not part of what is built
	links    string   // artifact that it is linked with, "" for none
	optional bool     // the others are of use without it
	races    bool     // its code tells of every access to memory
}

var (
	common = []string{"-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-gnu-unique", "-Wl,-Bsymbolic"}
	// The code of libraries.
	runtimeFlags = []string{"-O2", "-Wall", "-Wextra", "-Werror", "-pthread"}
	mathFlags    = append(slices.Clone(runtimeFlags), "-O3", "-fno-math-errno")
	// Kernels: as nvcc, sums and products may be fused; shared memory is reached by others at any call that is not seen through.
	kernelFlags = []string{"-x", "c++", "-DHOST_KERNELS", "-O2", "-w", "-ffp-contract=fast", "-fno-strict-aliasing", "-fno-exceptions", "-fno-rtti",
		"-fno-ipa-reference", "-fsanitize=alignment,bounds,shift-exponent,signed-integer-overflow,integer-divide-by-zero", "-fno-sanitize-recover=all"}
)

const (
	driverName = "libcuda.so.1"
	blasName   = "libcublas.so.12"
)

// raceFlags have the compiler call functions of the interface of libtsan, which the driver has; that library is not linked.
var raceFlags = []string{"-fsanitize=thread", "-g1"}

// artifacts lists the driver and then the other libraries, among them one for each kernel source of a directory. With races, kernels
// tell the driver of their accesses.
func artifacts(root, kernels string, races bool) ([]artifact, error) {
	src, language := filepath.Join(root, here, "src"), filepath.Join(root, kernelDir)
	sources, err := matching(src, "*.cpp")
	if err != nil {
		return nil, err
	}
	list := []artifact{{name: driverName, sources: sources, flags: append(slices.Clone(runtimeFlags), "-Wl,-soname,"+driverName)}}
	sources, err = matching(filepath.Join(src, "cublas"), "*.cpp")
	if err != nil {
		return nil, err
	}
	list = append(list, artifact{name: blasName, sources: sources, flags: append(slices.Clone(mathFlags), "-Wl,-soname,"+blasName),
		include: []string{src}, links: driverName, optional: true})
	cus, err := matching(kernels, "*.cu")
	for _, cu := range cus {
		a := artifact{name: "kernels-" + stem(cu) + ".so", sources: []string{cu}, flags: kernelFlags, include: []string{language, src},
			links: driverName, optional: true, races: races}
		if races {
			a.flags = slices.Concat(kernelFlags, raceFlags)
		}
		list = append(list, a)
	}
	for i := range list {
		var failed error
		list[i].depends, failed = included(list[i].sources, list[i].include)
		err = errors.Join(err, failed)
	}
	return list, err
}
