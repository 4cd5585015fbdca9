//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"strings"

	cu "gorgonia.org/cu"
)

// Info describes a GPU.
type Info struct {
	Name            string
	Memory          int64 // bytes
	Major, Minor    int   // compute capability
	Multiprocessors int
}

// Report is what Probe found.
type Report struct {
	Driver    string // where the driver was found, "" where it was not
	Version   int    // of CUDA that the driver has, 1000*major + 10*minor
	Devices   []Info
	Libraries []string // those of CUDA that are used and were found
	Missing   []string // those that were not, with the reason
	Err       error    // why there is no device to use, nil where there is
}

// Probe looks for the driver, its devices and the libraries of CUDA. It opens no device.
func Probe() Report {
	var r Report
	r.Err = openDriver()
	r.Driver = driverPath()
	r.library("cuBLAS", blasNames())
	if r.Driver == "" || r.Err != nil && !errors.Is(r.Err, ErrNoDevice) {
		return r
	}
	r.Version = max(0, cu.Version())
	if r.Err != nil {
		return r
	}
	n, err := cu.NumDevices()
	if err != nil {
		r.Err = failed("cuDeviceGetCount", err, "")
		return r
	}
	usable := false
	for i := range n {
		info, err := inspect(i)
		if err != nil {
			r.Err = err
			return r
		}
		r.Devices = append(r.Devices, info)
		usable = usable || info.Major >= 8
	}
	if !usable {
		r.Err = fmt.Errorf("%w: none of %d devices has compute capability 8.0", ErrNoDevice, n)
	}
	return r
}

// library notes whether one of the libraries is found, the first of them first.
func (r *Report) library(what string, names []string) {
	handle, where := library(names...)
	if handle == nil {
		r.Missing = append(r.Missing, what+": "+where)
		return
	}
	r.Libraries = append(r.Libraries, what+" "+where)
}

// inspect describes the device of that number.
func inspect(ordinal int) (Info, error) {
	n, err := cu.NumDevices()
	if err != nil {
		return Info{}, failed("cuDeviceGetCount", err, "")
	}
	if ordinal < 0 || ordinal >= n {
		return Info{}, fmt.Errorf("%w: no device %d, there are %d", ErrNoDevice, ordinal, n)
	}
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return Info{}, failed("cuDeviceGet", err, "")
	}
	var i Info
	if i.Name, err = dev.Name(); err != nil {
		return Info{}, failed("cuDeviceGetName", err, "")
	}
	if i.Memory, err = dev.TotalMem(); err != nil {
		return Info{}, failed("cuDeviceTotalMem", err, "")
	}
	for _, a := range []struct {
		to        *int
		attribute cu.DeviceAttribute
	}{{&i.Major, cu.ComputeCapabilityMajor}, {&i.Minor, cu.ComputeCapabilityMinor}, {&i.Multiprocessors, cu.MultiprocessorCount}} {
		if *a.to, err = dev.Attribute(a.attribute); err != nil {
			return Info{}, failed("cuDeviceGetAttribute", err, "")
		}
	}
	return i, nil
}

// String is a paragraph for people.
func (r Report) String() string {
	var parts []string
	switch {
	case r.Driver == "":
	case r.Version > 0:
		parts = append(parts, fmt.Sprintf("driver %s for CUDA %d.%d", r.Driver, r.Version/1000, r.Version%1000/10))
	default:
		parts = append(parts, "driver "+r.Driver)
	}
	for i, d := range r.Devices {
		parts = append(parts, fmt.Sprintf("device %d: %s, %.1f GB, sm_%d%d, %d multiprocessors", i, d.Name, float64(d.Memory)/1e9, d.Major, d.Minor, d.Multiprocessors))
	}
	parts = append(parts, r.Libraries...)
	for _, m := range r.Missing {
		parts = append(parts, "no "+m)
	}
	if r.Err != nil {
		parts = append([]string{strings.TrimPrefix(r.Err.Error(), "cuda: ")}, parts...)
	}
	return "cuda: " + strings.Join(parts, "; ")
}
