package manifest

import (
	"strconv"
	"strings"
)

// pyFloat writes a number as Python's repr does: the shortest decimal that reads back the same, always with a point or an exponent.
func pyFloat(f float64) string {
	text := strconv.FormatFloat(f, 'e', -1, 64)
	_, exp, _ := strings.Cut(text, "e")
	n, err := strconv.Atoi(exp)
	if err != nil { // not finite, which a plan never is
		return text
	}
	if n < -4 || n >= 16 {
		return text
	}
	text = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// pyList writes a list as Python's json.dump and repr do, each element by one of its own.
func pyList[T any](list []T, one func(T) string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(one(v))
	}
	b.WriteByte(']')
	return b.String()
}

func pyFloats(row []float64) string { return pyList(row, pyFloat) }

func pyInts(row []int) string { return pyList(row, strconv.Itoa) }
