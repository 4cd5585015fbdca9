package ui

import (
	"bytes"
	"encoding/json"
	"io"
)

// jsonView writes one object a line: {"event":"warning", …}. Every line is written by a single call.
type jsonView struct{ out io.Writer }

func (v *jsonView) show(e Event) error {
	kind, err := json.Marshal(e.kind())
	if err != nil {
		return err
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return err
	}
	line := append([]byte(`{"event":`), kind...)
	if fields := bytes.TrimPrefix(body.Bytes(), []byte("{")); !bytes.HasPrefix(fields, []byte("}")) {
		line = append(append(line, ','), fields...)
	} else {
		line = append(line, fields...)
	}
	_, err = v.out.Write(line)
	return err
}

func (v *jsonView) rows(rows []PlanRow) error {
	for _, r := range rows {
		if err := v.show(r); err != nil {
			return err
		}
	}
	return nil
}
