package calib

import (
	"compress/gzip"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow bounds the memory that a zstd frame may ask for (the format's own recommendation is 8 MiB; 128 MiB is
// what the zstd tool accepts without --ultra --long).
const maxZstdWindow = 128 << 20

// decompress returns a reader of the plain bytes of f, which is called name, and the name without the ending that said
// how it is compressed. The reader fails once more than limit bytes have come out of it.
func decompress(f io.Reader, name string, limit int64) (io.ReadCloser, string, error) {
	ext := strings.ToLower(filepath.Ext(name))
	inner := name[:len(name)-len(ext)]
	switch ext {
	case ".gz":
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, "", fmt.Errorf("gzip: %w", err)
		}
		return &capped{r: z, close: z.Close, left: limit, limit: limit}, inner, nil
	case ".zst", ".zstd":
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, "", fmt.Errorf("zstd: %w", err)
		}
		return &capped{r: z, close: func() error { z.Close(); return nil }, left: limit, limit: limit}, inner, nil
	}
	return &capped{r: f, close: func() error { return nil }, left: limit, limit: limit}, name, nil
}

// capped passes on at most limit bytes and then fails, unlike io.LimitReader, which would end quietly.
type capped struct {
	r           io.Reader
	close       func() error
	left, limit int64
}

func (c *capped) Read(p []byte) (int, error) {
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		return 0, fmt.Errorf("input grows past the limit of %d bytes after decompression", c.limit)
	}
	c.left -= int64(n)
	return n, err
}

func (c *capped) Close() error { return c.close() }
