package nn

import "modelpress/internal/device"

// MakeRoom gives memory of the device back that the model and states of windows hold and can do without, until so many bytes are free, for
// work that does not go through the model. It does nothing where the device has no memory of its own.
func (m *Model) MakeRoom(bytes int64) {
	dev, ok := m.Dev.(device.Remote)
	if !ok {
		return
	}
	for dev.Room() < bytes && m.relieve(false) {
	}
}
