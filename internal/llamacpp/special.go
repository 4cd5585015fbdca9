package llamacpp

import (
	"encoding/json"
	"errors"
	"slices"

	"modelpress/formats"
	"modelpress/formats/gguf"
)

// specials are the roles of tokens, and how the keys of their ids call them.
var specials = []struct{ role, key string }{
	{"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"sep", "seperator"}, {"pad", "padding"}, {"cls", "cls"}, {"mask", "mask"},
}

func specialKey(name string) string { return "tokenizer.ggml." + name + "_token_id" }

// special adds the ids of special tokens, which of them text gets, and the chat template.
func (w *tokenWriter) special(doc object) error {
	config, err := w.files.object(tokenizerConfigFile)
	if err != nil {
		return err
	}
	ids, err := w.specialIDs(config)
	if err != nil {
		return err
	}
	first, last, err := w.brackets(doc["post_processor"])
	if err != nil {
		return formats.Errorf(tokenizerFile, "", "post_processor: %w", err)
	}
	for role, id := range map[string]int{"bos": first, "eos": last} { // where no file names them
		if _, named := ids[role]; !named && id >= 0 {
			ids[role] = id
		}
	}
	for _, s := range specials {
		if id, ok := ids[s.role]; ok {
			w.add(specialKey(s.key), gguf.Uint32(uint32(id)))
		}
	}
	if _, ok := ids["eos"]; !ok {
		w.warn("no file names the token that ends text; llama.cpp takes one of its own choice")
	}
	if err := w.around(first, last, config, ids); err != nil {
		return err
	}
	return w.template(config)
}

// specialIDs finds ids by the content of tokens in tokenizer_config.json and special_tokens_map.json, else as config.json and
// generation_config.json give them.
func (w *tokenWriter) specialIDs(config object) (map[string]int, error) {
	names, err := w.files.object(specialMapFile)
	if err != nil {
		return nil, err
	}
	ids := map[string]int{}
	for _, s := range specials {
		for _, o := range []object{config, names} {
			if _, done := ids[s.role]; done {
				break
			}
			if id, ok := w.model.ids[tokenContent(o[s.role+"_token"])]; ok {
				ids[s.role] = int(id)
			}
		}
	}
	for _, file := range []string{configFile, generationFile} {
		o, err := w.files.object(file)
		if err != nil {
			return nil, err
		}
		for _, s := range specials {
			key := s.role + "_token_id"
			if _, done := ids[s.role]; done || !o.has(key) {
				continue
			}
			id, err := firstID(o[key])
			if err != nil {
				return nil, formats.Errorf(file, "", "key %q: %w", key, err)
			}
			if id < 0 || id >= w.vocab {
				w.warn("%s: %s %d is no token and is left out", file, key, id)
				continue
			}
			ids[s.role] = id
		}
	}
	return ids, nil
}

// tokenContent reads a token that is a string or an object with its content.
func tokenContent(raw json.RawMessage) string {
	text := ""
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	o, err := parseObject(raw)
	if err != nil || o.get("content", &text) != nil {
		return ""
	}
	return text
}

// firstID reads an id, or the first of a list.
func firstID(raw json.RawMessage) (int, error) {
	id := 0
	if json.Unmarshal(raw, &id) == nil {
		return id, nil
	}
	var list []int
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return 0, errors.New("is neither an id nor a list of ids")
	}
	return list[0], nil
}

// around adds whether text gets a token in front and one behind: as tokenizer_config.json says, else as the post-processor does.
func (w *tokenWriter) around(first, last int, config object, ids map[string]int) error {
	for _, s := range []struct {
		role, key string
		token     int
	}{{"bos", keyAddBOS, first}, {"eos", keyAddEOS, last}} {
		id, known := ids[s.role]
		adds := known && id == s.token
		if s.token >= 0 && !adds {
			w.warn("the tokenizer puts token %d around text, which is not the %s token; llama.cpp does not", s.token, s.role)
		}
		if err := config.get("add_"+s.role+"_token", &adds); err != nil {
			return formats.Errorf(tokenizerConfigFile, "", "%w", err)
		}
		w.add(s.key, gguf.Bool(adds && known))
	}
	return nil
}

// brackets returns the ids that a post-processor puts in front of text and behind it, -1 for none.
func (w *tokenWriter) brackets(raw json.RawMessage) (first, last int, err error) {
	first, last = -1, -1
	if len(raw) == 0 || string(raw) == "null" {
		return first, last, nil
	}
	o, err := parseObject(raw)
	if err != nil {
		return first, last, err
	}
	list := []json.RawMessage{raw}
	if normalizerType(raw) == "Sequence" {
		list = nil
		if err := o.get("processors", &list); err != nil {
			return first, last, err
		}
	}
	for _, item := range list {
		o, err := parseObject(item)
		if err != nil {
			return first, last, err
		}
		switch normalizerType(item) {
		case "TemplateProcessing":
			f, l, err := w.single(o["single"])
			if err != nil {
				return first, last, err
			}
			first, last = f, l
		case "BertProcessing", "RobertaProcessing":
			first, last = w.idOf(listStart(o["cls"])), w.idOf(listStart(o["sep"]))
		}
	}
	return first, last, nil
}

// single reads the template of one text: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}].
func (w *tokenWriter) single(raw json.RawMessage) (first, last int, err error) {
	var pieces []map[string]struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(raw, &pieces); err != nil {
		return -1, -1, errors.New("the template of a single text is no list of pieces")
	}
	at := slices.IndexFunc(pieces, func(p map[string]struct {
		ID string `json:"id"`
	}) bool {
		_, ok := p["Sequence"]
		return ok
	})
	if at < 0 || at > 1 || len(pieces)-at > 2 {
		w.warn("the tokenizer puts more tokens around text than one in front and one behind, llama.cpp does not")
		return -1, -1, nil
	}
	first, last = -1, -1
	if at == 1 {
		first = w.idOf(pieces[0]["SpecialToken"].ID)
	}
	if at+1 < len(pieces) {
		last = w.idOf(pieces[at+1]["SpecialToken"].ID)
	}
	return first, last, nil
}

func (w *tokenWriter) idOf(token string) int {
	if id, ok := w.model.ids[token]; ok {
		return int(id)
	}
	return -1
}

// listStart returns the string that begins a list.
func listStart(raw json.RawMessage) string {
	var list []json.RawMessage
	text := ""
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 && json.Unmarshal(list[0], &text) == nil {
		return text
	}
	return ""
}
