package pipeline

import (
	"errors"
	"sort"
)

// sortedJoin joins all faults into one error, sorted by text so that the message does not depend on the order of finding.
func sortedJoin(f faults) error {
	sort.Slice(f, func(i, j int) bool { return f[i].Error() < f[j].Error() })
	return errors.Join(f...)
}
