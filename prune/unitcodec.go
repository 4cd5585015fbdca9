package prune

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const hexDigits = "0123456789abcdef"

// formatUnits writes ascending units as runs, "0-99,101", or as a bitmap of hexadecimal digits where that is less than half as long.
func formatUnits(keep []int) (string, error) {
	var runs strings.Builder
	for i := 0; i < len(keep); {
		if keep[i] < 0 || keep[i] >= maxUnit || i > 0 && keep[i] <= keep[i-1] {
			return "", fmt.Errorf("unit %d is out of order or bounds", keep[i])
		}
		j := i + 1
		for j < len(keep) && keep[j] == keep[j-1]+1 {
			j++
		}
		if i > 0 {
			runs.WriteByte(',')
		}
		runs.WriteString(strconv.Itoa(keep[i]))
		if j > i+1 {
			runs.WriteString("-" + strconv.Itoa(keep[j-1]))
		}
		i = j
	}
	if len(keep) == 0 || runs.Len() <= 2*(2+keep[len(keep)-1]/4) {
		return runs.String(), nil
	}
	bits := make([]byte, 1+keep[len(keep)-1]/4)
	for _, u := range keep {
		bits[u/4] |= 1 << (u % 4)
	}
	for i, b := range bits {
		bits[i] = hexDigits[b]
	}
	return "x" + string(bits), nil
}

// parseUnits reads what formatUnits writes and takes their number from left. Any other spelling of the same units is an error.
func parseUnits(s string, left *int) ([]int, error) {
	keep := []int{}
	add := func(first, last int) error {
		n := last - first + 1
		if n < 1 || first < 0 || last >= maxUnit || n > *left {
			return fmt.Errorf("units %d to %d are out of order or bounds", first, last)
		}
		*left -= n
		keep = slices.Grow(keep, n)
		for u := first; u <= last; u++ {
			keep = append(keep, u)
		}
		return nil
	}
	if bits, ok := strings.CutPrefix(s, "x"); ok {
		for i := range len(bits) {
			b := strings.IndexByte(hexDigits, bits[i])
			if b < 0 {
				return nil, fmt.Errorf("%q is no hexadecimal digit", bits[i])
			}
			for j := range 4 {
				if b>>j&1 == 0 {
					continue
				}
				if err := add(4*i+j, 4*i+j); err != nil {
					return nil, err
				}
			}
		}
	} else if s != "" {
		for r := range strings.SplitSeq(s, ",") {
			first, last, err := parseRun(r)
			if err == nil {
				err = add(first, last)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if again, err := formatUnits(keep); err != nil || again != s {
		return nil, fmt.Errorf("units are not in their shortest spelling, or out of order")
	}
	return keep, nil
}

// parseRun reads "5" or "3-5".
func parseRun(s string) (first, last int, err error) {
	a, b, more := strings.Cut(s, "-")
	if first, err = strconv.Atoi(a); err != nil {
		return 0, 0, fmt.Errorf("%.20q is no unit", a)
	}
	if !more {
		return first, first, nil
	}
	if last, err = strconv.Atoi(b); err != nil {
		return 0, 0, fmt.Errorf("%.20q is no unit", b)
	}
	return first, last, nil
}
