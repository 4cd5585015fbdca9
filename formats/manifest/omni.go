package manifest

import "strings"

// The sizes that MindIE's omni attention has fixed.
const (
	omniSink   = 128
	omniRecent = 256
	omniFile   = "omni_attention_pattern.txt"
)

var omniFormat = &Format{
	Name: "mindie-omni", Readers: "MindIE (ATB_LLM_OMNI_ATTENTION_PATTERN_FILE)", Files: omniFile,
	Condition: "as duo, with sink 128 and recent 256",
	write:     writeOmni, read: readOmni,
}

// writeOmni writes the matrix of layers and KV heads that numpy.loadtxt reads: 1 for a head that streams.
func writeOmni(x *export) error {
	if _, err := x.oneWidth(x.kvHeads); err != nil {
		return err
	}
	decode := x.decoding()
	s := x.streams(decode)
	x.prefillAsDecoding(decode)
	if streaming, _ := s.counts(); streaming > 0 && (s.sink != omniSink || s.recent != omniRecent) {
		x.lose("sink %d and recent %d: MindIE has %d and %d", s.sink, s.recent, omniSink, omniRecent)
		s.sink, s.recent = omniSink, omniRecent
	}
	x.saving("MindIE's sizes", s.span)
	var b strings.Builder
	for _, row := range s.full {
		for g, full := range row {
			if g > 0 {
				b.WriteByte(' ')
			}
			b.WriteByte("10"[bit(full)])
		}
		b.WriteByte('\n')
	}
	x.file(omniFile, []byte(b.String()))
	x.note("set ATB_LLM_OMNI_ATTENTION_PATTERN_FILE to the file's path")
	return nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func readOmni(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	m, err := r.matrix(f, " ")
	if err != nil {
		return err
	}
	full := make([][]bool, len(m))
	for l, row := range m {
		for _, v := range row {
			if v != 0 && v != 1 {
				return r.bad(f.Name, "line %d: %v is neither 0 nor 1", l+1, v)
			}
			full[l] = append(full[l], v == 0)
		}
	}
	sink, recent := r.sizes(omniSink, omniRecent)
	r.stream(full, sink, recent)
	return nil
}
