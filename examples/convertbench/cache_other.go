//go:build !linux

package main

import "errors"

// forget cannot empty the page cache of this system.
func forget([]string) error {
	return errors.New("the page cache of this system cannot be emptied: give -warm")
}
