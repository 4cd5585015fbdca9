package importance

import (
	"modelpress/internal/device"
	"modelpress/internal/device/cpu"
	"modelpress/internal/device/devicetest"
)

// deviceOf returns the CPU with a number of threads; with 3 behind a stand-in for a device whose memory the host cannot address. All of them
// are to give the same bits.
func deviceOf(threads int) device.Device {
	if threads == 3 {
		return devicetest.NewRemote(cpu.New(threads), 1<<32)
	}
	return cpu.New(threads)
}
