package manifest

import (
	"encoding/json"
	"strconv"
	"strings"
)

// What rtp-llm takes where no head streams.
const (
	rtpSink   = 4
	rtpRecent = 8192
	rtpKey    = "headwise_config"
	rtpFile   = "headwise_config.json"
)

var rtpFormat = &Format{
	Name: "rtp-llm", Readers: "rtp-llm (config.json)", Files: rtpFile,
	Condition: "prefill is full or one streaming pair; decoding is full",
	write:     writeRTP, read: readRTP,
}

// writeRTP writes the object that stands in config.json under headwise_config: sizes, the length under which prefill is dense, and
// for each layer a 1 for every query head that is full.
func writeRTP(x *export) error {
	s := x.streams(x.prefill())
	x.denseDecoding()
	if s.recent == 0 {
		if s.sink, s.recent = x.unusedSizes(); s.recent == 1 {
			s.sink, s.recent = rtpSink, rtpRecent
		}
	}
	var b strings.Builder
	b.WriteString(`{"` + rtpKey + `": {"sink_token_num": ` + strconv.Itoa(s.sink) + `, "swa_token_num": ` + strconv.Itoa(s.recent) +
		`, "seqlen_threshold": ` + strconv.Itoa(x.p.Phases.Prefill.MinSeq))
	for l, row := range s.full {
		b.WriteString(`, "` + strconv.Itoa(l) + `": ` + pyList(row, func(full bool) string { return strconv.Itoa(bit(full)) }))
	}
	b.WriteString("}}")
	x.file(rtpFile, []byte(b.String()))
	x.note("put the key " + rtpKey + " into the model's config.json")
	return nil
}

// readRTP reads a config.json with the key, or an object of it alone. A layer that is absent is full.
func readRTP(r *reader) error {
	f, o, err := r.onlyObject()
	if err != nil {
		return err
	}
	var c map[string]json.RawMessage
	if err := r.member(f, o, rtpKey, &c); err != nil {
		return err
	}
	sink, err := r.tokens(f, c, "sink_token_num", 0)
	if err != nil {
		return err
	}
	recent, err := r.tokens(f, c, "swa_token_num", 1)
	if err != nil {
		return err
	}
	if r.p.Phases.Prefill.MinSeq, err = r.tokens(f, c, "seqlen_threshold", 0); err != nil {
		return err
	}
	sink, recent = r.sizes(sink, recent)
	r.p.Policies["s"] = Streaming(sink, recent) // kept where no head has it, for its sizes
	for _, key := range sortedKeys(c) {
		switch key {
		case "sink_token_num", "swa_token_num", "seqlen_threshold":
			continue
		}
		l, err := strconv.Atoi(key)
		if err != nil || strconv.Itoa(l) != key {
			return r.bad(f.Name, "%.40q is no layer", key)
		}
		if l < 0 || l >= len(r.qHeads) {
			return r.shape(f.Name, "layer %d, the model has %d", l, len(r.qHeads))
		}
		if err := r.rtpLayer(f, c, l); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) rtpLayer(f File, c map[string]json.RawMessage, l int) error {
	var row []int
	if err := r.member(f, c, strconv.Itoa(l), &row); err != nil {
		return err
	}
	if err := r.width(f.Name, l, len(row), r.qHeads); err != nil {
		return err
	}
	ids := make([]string, len(row))
	for q, v := range row {
		switch v {
		case 1:
			ids[q] = "full"
		case 0:
			ids[q] = "s"
		default:
			return r.bad(f.Name, "layer %d: %d is neither 0 nor 1", l, v)
		}
	}
	r.prefill(l, ids)
	return nil
}
