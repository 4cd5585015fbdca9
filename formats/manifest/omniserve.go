package manifest

import "fmt"

// omniservePage is the number of tokens of omniserve's cache blocks; sinks and windows are whole blocks.
const omniservePage = 64

var omniserveFormat = &Format{
	Name: "omniserve", Readers: "omniserve (LServe)", Files: duoFormat.Files, Dir: true,
	Condition: "as duo; sink and recent are multiples of 64",
	write:     writeOmniserve, read: readDuo,
}

// writeOmniserve writes a DuoAttention directory. omniserve takes the sizes from its flags and not from config.json.
func writeOmniserve(x *export) error {
	s, err := x.duo()
	if err != nil {
		return err
	}
	streaming, all := s.counts()
	up := func(n int) int { return (n + omniservePage - 1) / omniservePage * omniservePage }
	sink, recent := up(s.sink), up(s.recent)
	if streaming > 0 && (sink != s.sink || recent != s.recent) {
		x.lose("sink %d and recent %d: omniserve keeps whole blocks of %d tokens, %d and %d", s.sink, s.recent, omniservePage, sink, recent)
	}
	x.note("%s", fmt.Sprintf("flags: --static-sparse-attn-load-dir DIR --static-sparsity %s --sparse-context-mode --ctx-sink-token %d --ctx-local-token %d"+
		" --dec-sink-token %d --dec-local-token %d --sub-chunk-per-block 4", sparsity(streaming, all), sink, recent, sink, recent))
	x.note("releases of 2025 take the window from --dec-sink-token in some places: measure with the sizes that are served")
	return nil
}
