//go:build cuda

package cuda

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The program needs neither libcuda nor any of its functions to start. symbols.h that lacks one does not link.
func TestStartsWithoutDriver(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		if strings.Contains(l, "cu") {
			t.Errorf("linked with %s", l)
		}
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if len(symbols) < 10 {
		t.Errorf("only %d imported symbols found", len(symbols))
	}
	for _, s := range symbols {
		if regexp.MustCompile(`^cu[A-Z]|^cublas|^cusolver`).MatchString(s.Name) {
			t.Errorf("imports %s", s.Name)
		}
	}
}

// probe starts this program with those directories for libraries, and returns what it says.
func probe(t *testing.T, path string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "MODELPRESS_TEST_RUN=probe", "MODELPRESS_CUDA_PATH="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// driver builds a libcuda.so.1 of a C source and returns its directory.
func driver(t *testing.T, source string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "driver.c"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cc, "-shared", "-fPIC", "-o", "libcuda.so.1", "driver.c")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// A program starts on a machine without a driver, with one that has no device, with one that fails and with one that lacks functions,
// and says what is missing.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name, source string
		want         []string
	}{
		{"no driver", "", []string{"no NVIDIA driver", "no libcuda.so.1 in $MODELPRESS_CUDA_PATH", "no driver: true, no device: false"}},
		{"not a library", "text", []string{"no NVIDIA driver", "no driver: true, no device: false"}},
		{"no device", `int cuInit(unsigned f) { return 100; }
int cuDriverGetVersion(int *v) { *v = 12040; return 0; }
int cuGetErrorName(int c, const char **s) { *s = "CUDA_ERROR_NO_DEVICE"; return 0; }`,
			[]string{"no usable GPU", "libcuda.so.1 for CUDA 12.4", "CUDA_ERROR_NO_DEVICE (100)", "no driver: false, no device: true"}},
		{"broken", `int cuInit(unsigned f) { return 803; }`, []string{"cuInit: unknown result (803)", "reinstall", "no driver: false, no device: false"}},
		{"none counted", `int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 0; return 0; }`, []string{"no usable GPU", "no driver: false, no device: true"}},
		{"functions missing", `int cuInit(unsigned f) { return 0; }`, []string{"cuDeviceGetCount: unknown result (500)", "lacks this function"}},
		{"an old device", `#include <string.h>
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int n) { *d = n; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, "Old"); return 0; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = 8000000000; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 7 : 5; return 0; }`,
			[]string{"none of 1 devices", "device 0: Old, 8.0 GB, sm_75", "Old has compute capability 7.5", "no device: true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := "-"
			switch c.source {
			case "":
			case "text":
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "libcuda.so.1"), []byte("text"), 0o644); err != nil {
					t.Fatal(err)
				}
				path = dir + ":-"
			default:
				path = driver(t, c.source) + ":-"
			}
			got := probe(t, path)
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%q is not in\n%s", w, got)
				}
			}
		})
	}
}
