// Package cuda is the device of NVIDIA GPUs, compute capability 8.0 and newer. Without the build tag cuda it is empty.
//
// The driver and the libraries of CUDA are looked for when the device is opened: a program built with the tag starts on any
// machine and says what it found.
package cuda
