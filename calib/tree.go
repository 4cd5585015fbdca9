package calib

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"modelpress/formats"
)

// splitTree reads "DIR:EXT" or "DIR:.EXT" where DIR is a directory.
func splitTree(path string) (dir, ext string, ok bool) {
	i := strings.LastIndexByte(path, ':')
	if i <= 0 || i == len(path)-1 || strings.ContainsAny(path[i+1:], `/\`) {
		return "", "", false
	}
	dir, ext = path[:i], path[i+1:]
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return "", "", false
	}
	if ext[0] != '.' {
		ext = "." + ext
	}
	return dir, ext, true
}

// tree reads the files of one extension below a directory, in lexical order, without following links. Files that are no
// text (not UTF-8) or longer than MaxDocument are left out: a source tree holds such files for its own tests.
func (t *Text) tree(emit func(Document) bool) error {
	left := t.opt.MaxTotal
	// A root that is itself a link would not be walked; Go installations are often reached through one.
	root, err := filepath.EvalSymlinks(t.path)
	if err != nil {
		return formats.Errorf(t.base, "", "%w", cause(err))
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(root, path)
		if relErr != nil {
			rel = filepath.Base(path)
		}
		if err != nil {
			return formats.Errorf(rel, "", "%w", cause(err))
		}
		if !d.Type().IsRegular() || filepath.Ext(path) != t.ext {
			return nil
		}
		data, err := readFileCapped(path, t.opt.MaxDocument)
		if _, long := err.(errLong); long {
			return nil
		}
		if err != nil {
			return formats.Errorf(rel, "", "%w", cause(err))
		}
		if len(data) == 0 || !utf8.Valid(data) {
			return nil
		}
		if left -= int64(len(data)); left < 0 {
			return formats.Errorf(t.base, "", "its %s files pass the limit of %d bytes", t.ext, t.opt.MaxTotal)
		}
		if !emit(Document{Name: rel, Text: string(data)}) {
			return filepath.SkipAll
		}
		return nil
	})
}

// readFileCapped reads a file of at most limit bytes.
func readFileCapped(path string, limit int64) ([]byte, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readCapped(f, limit)
}
