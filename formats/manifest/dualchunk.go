package manifest

import (
	"encoding/json"
	"fmt"
)

const (
	dualChunkKey  = "dual_chunk_attention_config"
	dualChunkFile = "dual_chunk_attention_config.json"
)

// dualChunkOwn are keys that belong to the model's positions and not to its sparsity.
var dualChunkOwn = []string{"chunk_size", "local_size", "original_max_position_embeddings"}

var dualChunkFormat = &Format{
	Name: "dual-chunk", Readers: "vLLM up to 0.10, SGLang (dual_chunk_flash_attn; config.json)", Files: dualChunkFile,
	Condition: "as minference, with any min_seq and one last_q",
	write:     writeDualChunk, read: readDualChunk,
}

// writeDualChunk writes the keys about sparsity of the object that stands in config.json under dual_chunk_attention_config.
func writeDualChunk(x *export) error {
	lastQ := 0
	for _, id := range x.p.used() {
		if pol := x.p.Policies[id]; pol.Kind == KindVerticalSlash {
			lastQ = max(lastQ, pol.LastQ)
		}
	}
	if lastQ == 0 {
		lastQ = minferenceLastQ
	}
	text := x.patterns(lastQ)
	x.file(dualChunkFile, fmt.Appendf(nil, `{"%s": {"sparse_attention_config": %s, "sparse_attention_enabled": true, "sparse_attention_threshold": %d, "sparse_attention_last_q": %d}}`,
		dualChunkKey, text, x.p.Phases.Prefill.MinSeq, lastQ))
	x.note("merge the keys into %s of the model's config.json, which has chunk_size, local_size and original_max_position_embeddings of its own", dualChunkKey)
	return nil
}

// readDualChunk reads a config.json with the key, or an object of it alone.
func readDualChunk(r *reader) error {
	f, o, err := r.onlyObject()
	if err != nil {
		return err
	}
	var c map[string]json.RawMessage
	if err := r.member(f, o, dualChunkKey, &c); err != nil {
		return err
	}
	var list []map[string][]json.RawMessage
	if err := r.member(f, c, "sparse_attention_config", &list); err != nil {
		return err
	}
	enabled := true
	if _, ok := c["sparse_attention_enabled"]; ok {
		if err := r.member(f, c, "sparse_attention_enabled", &enabled); err != nil {
			return err
		}
	}
	if !enabled {
		return r.bad(f.Name, "sparse_attention_enabled is false: the patterns are not in use")
	}
	if r.p.Phases.Prefill.MinSeq, err = r.tokens(f, c, "sparse_attention_threshold", 0); err != nil {
		return err
	}
	lastQ, err := r.tokens(f, c, "sparse_attention_last_q", 1)
	if err != nil {
		return err
	}
	for _, key := range dualChunkOwn {
		if _, ok := c[key]; ok {
			r.note("%s is about the model's positions and stays in its config.json", key)
		}
	}
	return r.readPatterns(f, list, lastQ)
}
