//go:build cuda

package cuda

import (
	"embed"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"strings"

	cu "gorgonia.org/cu"
)

// The kernels, as kernels/build.sh compiles them. The driver makes code for its device of them.
//
//go:embed kernels/ptx/*.ptx
var kernels embed.FS

// module is the kernels of one source file, as the driver has compiled them.
type module struct {
	mod       cu.Module
	entries   map[string]string // the parameters of each kernel, a letter each
	functions map[string]*function
}

// function is a kernel that can be launched.
type function struct {
	fn         cu.Function
	parameters string
	shared     int // dynamic shared memory that it may have
}

// launch queues a kernel: module is its source file without .cu, grid and block count blocks and threads, shared is its dynamic shared
// memory in bytes. A grid without blocks launches nothing. Arguments are ptr, int and int32 for an int of the kernel, int64 for a long
// long, float32 and float64; they are compared with the kernel's own.
func (c *call) launch(module, kernel string, grid, block [3]int, shared int, args ...any) {
	for i, most := range [3]int{math.MaxInt32, 65535, 65535} {
		if grid[i] < 0 || grid[i] > most || block[i] < 1 {
			panic(fmt.Sprintf("cuda: %s: %v blocks of %v threads", kernel, grid, block))
		}
	}
	if block[0]*block[1]*block[2] > 1024 {
		panic(fmt.Sprintf("cuda: %s: blocks of %v threads", kernel, block))
	}
	if grid[0] == 0 || grid[1] == 0 || grid[2] == 0 {
		return
	}
	f, err := c.d.function(module, kernel)
	c.fail(err)
	c.fail(f.allow(shared))
	var boxes [maxArgs]uint64
	pack(kernel, f.parameters, &boxes, args)
	if err := launch(f.fn, grid, block, shared, c.d.compute.stream, &boxes, len(args)); err != nil {
		c.fail(fmt.Errorf("kernel %s: %w", kernel, err))
	}
}

// pack writes each argument to a box of 8 bytes, and panics where the kernel has other parameters.
func pack(kernel, parameters string, boxes *[maxArgs]uint64, args []any) {
	if len(args) != len(parameters) {
		panic(fmt.Sprintf("cuda: %s: %d arguments, want %d (%s)", kernel, len(args), len(parameters), parameters))
	}
	for i, a := range args {
		var letter byte
		switch a := a.(type) {
		case ptr:
			boxes[i], letter = uint64(a), 'l'
		case int64:
			boxes[i], letter = uint64(a), 'l'
		case int32:
			boxes[i], letter = uint64(uint32(a)), 'i'
		case int:
			if int(int32(a)) != a {
				panic(fmt.Sprintf("cuda: %s: argument %d is %d, which is no int of the kernel", kernel, i, a))
			}
			boxes[i], letter = uint64(uint32(a)), 'i'
		case float32:
			boxes[i], letter = uint64(math.Float32bits(a)), 'f'
		case float64:
			boxes[i], letter = math.Float64bits(a), 'd'
		}
		if letter != parameters[i] {
			panic(fmt.Sprintf("cuda: %s: argument %d is a %T, and the parameters are %s", kernel, i, a, parameters))
		}
	}
}

// allow lets the kernel have so much dynamic shared memory.
func (f *function) allow(shared int) error {
	if shared <= f.shared {
		return nil
	}
	if err := allowShared(f.fn, shared); err != nil {
		return err
	}
	f.shared = shared
	return nil
}

// function returns a kernel, and has the driver compile its module where that has not been done. The caller holds work.
func (d *Device) function(name, kernel string) (*function, error) {
	m := d.modules[name]
	if m == nil {
		var err error
		if m, err = loadModule(name); err != nil {
			return nil, err
		}
		d.modules[name] = m
	}
	if f := m.functions[kernel]; f != nil {
		return f, nil
	}
	parameters, ok := m.entries[kernel]
	if !ok {
		panic(fmt.Sprintf("cuda: no kernel %s in module %s", kernel, name))
	}
	fn, err := m.mod.Function(kernel)
	if err != nil {
		return nil, failed("cuModuleGetFunction", err, kernel)
	}
	f := &function{fn: fn, parameters: parameters}
	m.functions[kernel] = f
	return f, nil
}

// loadModule has the driver compile a module.
func loadModule(name string) (*module, error) {
	text, err := kernels.ReadFile("kernels/ptx/" + name + ".ptx")
	if err != nil {
		panic(fmt.Sprintf("cuda: no module %s", name))
	}
	log := make([]byte, 1<<16)
	mod, err := cu.LoadDataEx(string(text), &cu.JITErrorLogBuffer{Buffer: log})
	runtime.KeepAlive(log) // the call has its address as a number
	if err != nil {
		said, _, _ := strings.Cut(string(log), "\x00")
		return nil, failed("cuModuleLoadDataEx", err, strings.TrimSpace("module "+name+" "+said))
	}
	return &module{mod: mod, entries: entriesOf(string(text)), functions: map[string]*function{}}, nil
}

var (
	entryPattern     = regexp.MustCompile(`\.entry\s+(\w+)\s*\(([^)]*)\)`)
	parameterPattern = regexp.MustCompile(`\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)`)
)

// entriesOf reads the parameters of each kernel out of PTX: i and l for integers of 4 and 8 bytes, f and d for floats.
func entriesOf(text string) map[string]string {
	letters := map[string]string{"u32": "i", "s32": "i", "b32": "i", "u64": "l", "s64": "l", "b64": "l", "f32": "f", "f64": "d"}
	entries := map[string]string{}
	for _, e := range entryPattern.FindAllStringSubmatch(text, -1) {
		parameters := ""
		for _, p := range parameterPattern.FindAllStringSubmatch(e[2], -1) {
			letter := letters[p[1]]
			if letter == "" {
				letter = "?"
			}
			parameters += letter
		}
		entries[e[1]] = parameters
	}
	return entries
}
