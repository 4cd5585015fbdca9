package manifest

import (
	"bytes"
	"encoding/json"
)

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// canonical writes a JSON value with sorted keys and without white space; numbers keep their digits.
func canonical(data []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return marshal(v)
}

// layout opens up the outermost object, one field a line, and below it the lists and maps that hold records: an
// element of these stands on a line of its own.
func layout(compact []byte) []byte {
	var out bytes.Buffer
	var open []bool // whether each enclosing container is opened up
	newline := func() {
		out.WriteByte('\n')
		for _, o := range open {
			if o {
				out.WriteString("  ")
			}
		}
	}
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		switch c {
		case '"':
			end := i + 1
			for ; compact[end] != '"'; end++ {
				if compact[end] == '\\' {
					end++
				}
			}
			out.Write(compact[i : end+1])
			i = end
		case '{', '[':
			wide := len(open) < 2 && compact[i+1] != '}' && compact[i+1] != ']' && (len(open) == 0 || holdsRecords(compact[i+1:]))
			open = append(open, wide)
			out.WriteByte(c)
			if wide {
				newline()
			}
		case '}', ']':
			wide := open[len(open)-1]
			open = open[:len(open)-1]
			if wide {
				newline()
			}
			out.WriteByte(c)
		case ',':
			out.WriteByte(c)
			if open[len(open)-1] {
				newline()
			} else {
				out.WriteByte(' ')
			}
		case ':':
			out.WriteString(": ")
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// holdsRecords reports whether the first element of a container is itself a container.
func holdsRecords(inside []byte) bool {
	if inside[0] == '{' || inside[0] == '[' {
		return true
	}
	if inside[0] != '"' {
		return false
	}
	i := 1
	for ; inside[i] != '"'; i++ {
		if inside[i] == '\\' {
			i++
		}
	}
	return inside[i+1] == ':' && (inside[i+2] == '{' || inside[i+2] == '[')
}
