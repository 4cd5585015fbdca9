package llamacpp

import (
	"encoding/json"
	"slices"
	"strings"

	"modelpress/formats"
	"modelpress/formats/gguf"
)

// template adds the chat template byte for byte: that of tokenizer_config.json, one or several by names, else chat_template.jinja.
func (w *tokenWriter) template(config object) error {
	const key = "chat_template"
	if !config.has(key) {
		data, err := w.files.bytes(templateFile)
		if data != nil {
			w.add(keyTemplate, gguf.String(string(data)))
		}
		return err
	}
	text := ""
	if json.Unmarshal(config[key], &text) == nil {
		w.add(keyTemplate, gguf.String(text))
		return nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(config[key], &list); err != nil {
		return formats.Errorf(tokenizerConfigFile, "", "key %q is neither a text nor a list of named ones", key)
	}
	var names []string
	for _, t := range list {
		name := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return '_'
		}, t.Name)
		switch {
		case name == "default":
			text = t.Template
		case name != "" && !slices.Contains(names, name):
			names = append(names, name)
			w.add(keyTemplate+"."+name, gguf.String(t.Template))
		}
	}
	if names != nil {
		slices.Sort(names)
		w.add(keyTemplates, gguf.Strings(names))
	}
	if text != "" {
		w.add(keyTemplate, gguf.String(text))
	}
	return nil
}
