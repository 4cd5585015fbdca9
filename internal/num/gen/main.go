// Command gen writes the assembly of package num. Run it in this directory; with no argument it writes the files to the
// directory above. A test checks that what is committed is what it writes.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run .

func main() {
	dir := ".."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	for name, text := range files() {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o666); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			os.Exit(1)
		}
	}
}

// files returns the text of every generated file by name.
func files() map[string][]byte {
	return map[string][]byte{
		"bf16_amd64.s":      bf16s(),
		"blocks_amd64.s":    blocks(),
		"micro_amd64.s":     micros(),
		"peak_amd64.s":      peaks(),
		"stored_amd64.s":    storeds(),
		"symv_amd64.s":      symvs(),
		"transpose_amd64.s": transposes(),
		"vector_amd64.s":    vectors(),
	}
}
