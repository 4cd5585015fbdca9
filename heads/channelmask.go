package heads

import "fmt"

// ChannelMask writes which channels stay as a plan holds it: lower-case hex digits, four channels each, the highest bit of
// the first digit for channel 0. Bits past the last channel are 0.
func ChannelMask(keep []bool) string {
	out := make([]byte, (len(keep)+3)/4)
	for c, stays := range keep {
		if stays {
			out[c/4] |= 8 >> (c % 4)
		}
	}
	for i, d := range out {
		out[i] = "0123456789abcdef"[d]
	}
	return string(out)
}

// ParseChannelMask reads the mask of a head of k channels; "" keeps all of them.
func ParseChannelMask(mask string, k int) ([]bool, error) {
	if mask != "" && len(mask) != (k+3)/4 {
		return nil, fmt.Errorf("heads: a channel mask of %d digits for %d channels", len(mask), k)
	}
	keep := make([]bool, k)
	for c := range keep {
		keep[c] = mask == ""
	}
	for i := range len(mask) {
		d := mask[i]
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d >= 'a' && d <= 'f':
			d -= 'a' - 10
		default:
			return nil, fmt.Errorf("heads: %q in a channel mask is no hex digit", d)
		}
		for b := range 4 {
			if d&(8>>b) == 0 {
				continue
			}
			if 4*i+b >= k {
				return nil, fmt.Errorf("heads: a channel mask keeps channel %d of %d", 4*i+b, k)
			}
			keep[4*i+b] = true
		}
	}
	return keep, nil
}
