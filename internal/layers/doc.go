// Package layers holds tests of the shape of the module: which package may import which, where third-party modules and
// process-wide effects are allowed, and which strings may stand where. The sources are parsed; asking the go tool would miss
// files behind build tags and see cached answers.
package layers
