package hf

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"modelpress/formats"
)

// CopyFile copies a side file, or config.json, byte for byte to the same name below dir, which must exist, and returns
// the hexadecimal SHA-256 of its content. The copy appears whole, and on the disk, or not at all.
func (c *Checkpoint) CopyFile(dir, name string) (digest string, err error) {
	src, err := c.OpenFile(name)
	if err != nil {
		return "", err
	}
	defer src.Close()
	to := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", formats.NoSpace(err)
	}
	dst, err := formats.CreateTemp(to)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(dst, h), src)
	return hex.EncodeToString(h.Sum(nil)), formats.FinishTemp(dst, to, err)
}
