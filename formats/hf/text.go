package hf

import "strconv"

// clip shortens a name from a file so that an error message stays readable.
func clip(name string) string {
	const limit = 80
	if len(name) > limit {
		return name[:limit] + "…"
	}
	return name
}

func quote(name string) string { return strconv.Quote(clip(name)) }
