package ui

// style colours words, or leaves them alone.
type style struct{ on bool }

func (s style) paint(code, word string) string {
	if !s.on {
		return word
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

func (s style) red(w string) string    { return s.paint("31", w) }
func (s style) green(w string) string  { return s.paint("32", w) }
func (s style) yellow(w string) string { return s.paint("33", w) }

// mark colours the sign of a plan row.
func (s style) mark(m string) string {
	switch m {
	case "+":
		return s.green(m)
	case "-":
		return s.red(m)
	case "~", "±":
		return s.yellow(m)
	}
	return m
}
