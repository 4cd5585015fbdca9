package pipeline

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// refusal turns violations into one error that lists them all, nil where there are none. Those that differ in the number
// of a layer alone share a line.
func refusal(vs []violation) error {
	if len(vs) == 0 {
		return nil
	}
	return errKind(KindUsage, "change the recipe as each line says and plan again",
		"%d rules of the targets would be broken:\n  %s", len(vs), strings.Join(violationLines(vs), "\n  "))
}

// numbered matches the number of a layer in the name of a tensor.
var numbered = regexp.MustCompile(`\.[0-9]+\.`)

// violationLines returns a line for each violation, or for several that differ in the number of a layer.
func violationLines(vs []violation) []string {
	var order []violation // with the number replaced by *
	layers := map[violation][]int{}
	for _, v := range vs {
		at := numbered.FindStringIndex(v.tensor)
		n := -1
		if at != nil {
			var err error
			if n, err = strconv.Atoi(v.tensor[at[0]+1 : at[1]-1]); err == nil {
				v.tensor = v.tensor[:at[0]] + ".*." + v.tensor[at[1]:]
			}
		}
		if layers[v] == nil {
			order = append(order, v)
		}
		layers[v] = append(layers[v], n)
	}
	lines := make([]string, len(order))
	for i, v := range order {
		switch list := layers[v]; {
		case len(list) > 1:
			lines[i] = fmt.Sprintf("%s (tensor %q, * = %s): %s; fix: %s", v.target, v.tensor, ranges(list), v.rule, v.fix)
		default:
			v.tensor = strings.Replace(v.tensor, ".*.", fmt.Sprintf(".%d.", list[0]), 1)
			lines[i] = v.String()
		}
	}
	return lines
}

// ranges writes numbers as 0-3, 7, 9.
func ranges(list []int) string {
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	var parts []string
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n] == list[0]+n {
			n++
		}
		part := strconv.Itoa(list[0])
		if n > 1 {
			part = fmt.Sprintf("%d-%d", list[0], list[n-1])
		}
		parts, list = append(parts, part), list[n:]
	}
	return strings.Join(parts, ", ")
}
