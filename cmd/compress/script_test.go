package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script/*.txtar, the specification of the command line, with testscript. Scripts have its commands
// and these:
//
//	compress ARG...                    run the program; it must exit with 0
//	exit CODE ARG...                   run the program; it must exit with CODE
//	signal NAME CODE FILE TEXT ARG...  run the program, send it the signal once FILE holds TEXT; it must exit with CODE
//	model NAME DIR [SHARD]             write a random checkpoint (SHARD: most bytes of a weight file)
//	planted NAME DIR                   write a planted model with a tokenizer
//	passages FILE ROWS LENGTH SEED     write texts that such a model continues by induction, as JSON lines
//	headsplan OUT MODEL SECTION        plan base.yaml with that heads section on calib.jsonl, twice, and apply it: see scriptHeadsPlan
//	ids FILE ROWS LENGTH VOCAB SEED    write random token ids as .npy
//	flip FILE OFFSET                   invert a byte; a negative offset counts from the end
//	replace FILE OLD NEW               replace the first OLD in a file
//	jsonlines                          stdout of the last run is JSON with an event on every line, and stderr is empty
//	sametree A B                       two directories hold the same files
//	hold FILE                          keep an exclusive lock on a file until the script ends
//
// None of them takes a !. The program is this test binary, started as one.
func TestScripts(t *testing.T) { runScripts(t, "testdata/script", nil, setupScript) }

// runScripts runs the scripts of a directory, with more commands than those of TestScripts.
func runScripts(t *testing.T, dir string, more map[string]func(*testscript.TestScript, bool, []string), setup func(*testscript.Env) error) {
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"compress":  command(0, func(ts *testscript.TestScript, args []string) error { return expect(ts, exitOK, args) }),
		"exit":      command(1, scriptExit),
		"signal":    command(5, scriptSignal),
		"model":     command(2, scriptModel),
		"planted":   command(2, scriptPlanted),
		"passages":  command(4, scriptPassages),
		"headsplan": command(3, scriptHeadsPlan),
		"ids":       command(5, scriptIDs),
		"flip":      command(2, scriptFlip),
		"replace":   command(3, scriptReplace),
		"jsonlines": command(0, scriptJSONLines),
		"sametree":  command(2, scriptSameTree),
		"hold":      command(1, scriptHold),
	}
	maps.Copy(commands, more)
	testscript.Run(t, testscript.Params{Dir: dir, Setup: setup, RequireUniqueNames: true, Cmds: commands})
}

// tbKey finds the test of a script among the script's values.
type tbKey struct{}

// setupScript makes the test binary the program in what the script starts, and leaves it the settings of the Go runtime.
func setupScript(env *testscript.Env) error {
	env.Values[tbKey{}] = env.T()
	env.Setenv(asProgram, "1")
	for _, name := range []string{"GODEBUG", "GOMAXPROCS"} {
		if v, ok := os.LookupEnv(name); ok {
			env.Setenv(name, v)
		}
	}
	return nil
}

// tb returns the test of a script.
func tb(ts *testscript.TestScript) testing.TB { return ts.Value(tbKey{}).(testing.TB) }

// command makes f, which wants at least so many arguments, a command of scripts.
func command(least int, f func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("the command takes no !")
		}
		if len(args) < least {
			ts.Fatalf("want at least %d arguments, have %d", least, len(args))
		}
		ts.Check(f(ts, args))
	}
}

// expect runs the program and compares its exit code.
func expect(ts *testscript.TestScript, code int, args []string) error {
	self, err := os.Executable()
	ts.Check(err)
	err = ts.Exec(self, args...)
	if got := exitOf(err); got != code {
		return fmt.Errorf("exit code %d, want %d (%v)", got, code, err)
	}
	return nil
}

// exitOf is the exit code behind the error of a finished command, -1 where a signal ended it or it did not start.
func exitOf(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitCode()
	}
	return -1
}
