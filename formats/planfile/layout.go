package planfile

import "bytes"

// maxLine is the longest container, in bytes of compact JSON, that is written on one line.
const maxLine = 200

// layout writes compact JSON for people: a container of at most maxLine bytes stands on one line, a longer one has one
// element a line, two spaces deeper. The outermost container is always opened up. The rule looks at nothing but the
// compact bytes, so equal values have equal layouts.
func layout(compact []byte) []byte {
	l := layouter{src: compact, end: matchEnds(compact)}
	l.out.Grow(len(compact) + len(compact)/4)
	l.value(0, 0)
	l.out.WriteByte('\n')
	return l.out.Bytes()
}

type layouter struct {
	src []byte
	end map[int]int // index of each opening bracket of a long container -> index past its closing one
	out bytes.Buffer
}

// matchEnds finds the containers that have to be opened up.
func matchEnds(src []byte) map[int]int {
	ends := map[int]int{}
	var open []int
	for i := 0; i < len(src); i++ {
		switch src[i] {
		case '"':
			i = stringEnd(src, i) - 1
		case '{', '[':
			open = append(open, i)
		case '}', ']':
			start := open[len(open)-1]
			open = open[:len(open)-1]
			if i+1-start > maxLine || len(open) == 0 {
				ends[start] = i + 1
			}
		}
	}
	return ends
}

// stringEnd returns the index past the string literal that starts at i.
func stringEnd(src []byte, i int) int {
	for i++; src[i] != '"'; i++ {
		if src[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// value writes the value at i and returns the index past it.
func (l *layouter) value(i, depth int) int {
	end, long := l.end[i]
	if !long || end == i+2 {
		return l.flat(i)
	}
	l.out.WriteByte(l.src[i])
	i++
	for {
		l.newline(depth + 1)
		if l.src[i] == '"' {
			i = l.flat(i)
			if l.src[i] == ':' {
				l.out.WriteString(": ")
				i = l.value(i+1, depth+1)
			}
		} else {
			i = l.value(i, depth+1)
		}
		c := l.src[i]
		i++
		if c != ',' {
			l.newline(depth)
			l.out.WriteByte(c)
			return i
		}
		l.out.WriteByte(',')
	}
}

// flat writes a string, number, word or short container as it stands, with a space after each comma and colon.
func (l *layouter) flat(i int) int {
	depth := 0
	for {
		c := l.src[i]
		switch c {
		case '"':
			e := stringEnd(l.src, i)
			l.out.Write(l.src[i:e])
			i = e - 1
		case ',', ':', '}', ']':
			if depth == 0 {
				return i
			}
			l.out.WriteByte(c)
			if c == ',' || c == ':' {
				l.out.WriteByte(' ')
			} else {
				depth--
			}
		case '{', '[':
			depth++
			l.out.WriteByte(c)
		default:
			l.out.WriteByte(c)
		}
		i++
		if i == len(l.src) || depth == 0 && (c == '}' || c == ']') {
			return i
		}
	}
}

func (l *layouter) newline(depth int) {
	l.out.WriteByte('\n')
	for range depth {
		l.out.WriteString("  ")
	}
}
