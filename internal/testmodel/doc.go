// Package testmodel makes random checkpoints: tiny ones of every supported family for tests, and large ones of a real
// model's shape for measurements. Every value is a pure function of (seed, tensor name, index), so a checkpoint of any
// size is a formats.Source that needs no memory, and the bytes are the same on every run.
//
// Planted models ([Plant], [PlantedCases]) are not random: what each of their heads does is known, so that measures of heads
// and plans made from them have a truth to be compared with.
//
// A [Reference] is the forward pass of the stock classes in plain float64 loops, for tests to compare with.
//
// Shapes and configuration keys are written down here a second time, apart from internal/arch, on purpose: a test that
// took them from the code under test would agree with its mistakes.
package testmodel
