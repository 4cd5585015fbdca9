package calib

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxTokenizerBytes bounds the size of a tokenizer.json; the largest in use have about 33 MB.
const maxTokenizerBytes = 256 << 20

func buildTokenizer(data []byte) (*Tokenizer, error) {
	if len(data) > maxTokenizerBytes {
		return nil, fmt.Errorf("%d bytes are too many: at most %d", len(data), maxTokenizerBytes)
	}
	if len(data) == 0 {
		return nil, errors.New("empty file")
	}
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	o, err := parseObject("tokenizer", data)
	if err != nil {
		return nil, err
	}
	if v, err := o.text("version", "1.0"); err != nil || v != "1.0" {
		return nil, fmt.Errorf("version %s is not supported: only \"1.0\" is", clip(string(o.fields["version"])))
	}
	t := &Tokenizer{}
	if t.normalize, err = loadNormalizers(o.fields["normalizer"]); err != nil {
		return nil, err
	}
	pre, bytes, err := loadPre(o.fields["pre_tokenizer"])
	if err != nil {
		return nil, err
	}
	t.pre = pre
	if t.model, err = loadBPE(o.fields["model"], bytes); err != nil {
		return nil, err
	}
	added, err := o.list("added_tokens")
	if err != nil {
		return nil, err
	}
	if t.added, err = loadAdded(added, t.model, t.normalize); err != nil {
		return nil, err
	}
	if t.post, err = loadPost(o.fields["post_processor"], t.known, 0); err != nil {
		return nil, err
	}
	t.decode, err = loadDecoder(o.fields["decoder"])
	return t, err
}

// known tells whether an id has a token.
func (t *Tokenizer) known(id int32) bool {
	if _, ok := t.added.byID[id]; ok {
		return true
	}
	_, ok := t.model.token(id)
	return ok
}
