package planfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDecodeRefuses(t *testing.T) {
	good := string(mustEncode(t, sample()))
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the sample has no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	var squeezed bytes.Buffer
	if err := json.Compact(&squeezed, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data string
		want error
	}{
		"empty":                  {"", ErrMalformed},
		"not JSON":               {"model: llama", ErrMalformed},
		"list":                   {"[]", ErrMalformed},
		"null":                   {"null", ErrMalformed},
		"truncated":              {good[:len(good)/2], ErrMalformed},
		"two documents":          {good + good, ErrMalformed},
		"deep":                   {strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000), ErrMalformed},
		"no format":              {`{"plan_id":"sha256:00"}`, ErrMalformed},
		"other format":           {`{"format":"terraform"}`, ErrMalformed},
		"newer":                  {`{"format":"compress-plan/v2","stages":[]}`, ErrVersion},
		"unknown field":          {replace(`"device_class"`, `"colour": "red", "device_class"`), ErrMalformed},
		"duplicate key":          {replace(`"device_class": "cpu-f32",`, `"device_class": "cpu-f32", "device_class": "cpu-f32",`), ErrMalformed},
		"duplicate inner key":    {replace(`"bits": 4`, `"bits": 4, "bits": 4`), ErrMalformed},
		"wrong type":             {replace(`"peak_memory": 1073741824`, `"peak_memory": "1"`), ErrMalformed},
		"float for an integer":   {replace(`"peak_memory": 1073741824`, `"peak_memory": 1.5`), ErrMalformed},
		"edited decision":        {replace(`"bits": 4`, `"bits": 3`), ErrEdited},
		"edited digit":           {replace(`9007199254740993`, `9007199254740992`), ErrEdited},
		"edited id":              {replace(`"plan_id": "sha256:`, `"plan_id": "sha256:0`), ErrEdited},
		"no id":                  {replace(`"plan_id": "sha256:`, `"plan_id": "`), ErrEdited},
		"key in capitals":        {replace(`"device_class"`, `"Device_Class"`), ErrEdited},
		"other spelling":         {replace(`"bits": 4`, `"bits": 4.0`), ErrEdited},
		"reformatted":            {squeezed.String(), ErrEdited},
		"no newline":             {strings.TrimSuffix(good, "\n"), ErrEdited},
		"carriage returns":       {strings.ReplaceAll(good, "\n", "\r\n"), ErrEdited},
		"byte order mark":        {"\ufeff" + good, ErrMalformed},
		"invalid UTF-8":          {replace(`cpu-f32`, "cpu\xfff32"), ErrEdited},
		"contradiction, good id": {contradiction(t), ErrMalformed},
	} {
		p, err := Decode([]byte(c.data))
		if !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// contradiction returns a plan whose id is right and whose sizes are not.
func contradiction(t *testing.T) string {
	p := sample()
	mustEncode(t, p)
	p.Output.TensorBytes = 7
	c, err := normal(p)
	if err != nil {
		t.Fatal(err)
	}
	data, err := write(c)
	if err != nil {
		t.Fatal(err)
	}
	id, at, err := computeID(data)
	if err != nil {
		t.Fatal(err)
	}
	copy(data[at:], id)
	return string(data)
}

func TestEditedErrorSaysWhatToDo(t *testing.T) {
	data := strings.Replace(string(mustEncode(t, sample())), "llama", "gpt-2", 1)
	_, err := Decode([]byte(data))
	if err == nil || !strings.Contains(err.Error(), "change the recipe and plan again") {
		t.Error(err)
	}
}

func TestDecodeTooLarge(t *testing.T) {
	if _, err := Decode(make([]byte, MaxBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	good := mustEncode(f, sample())
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("4096"), []byte("-1"), 1))
	f.Add([]byte(`{"format":"compress-plan/v1","plan_id":"sha256:"}`))
	f.Add([]byte(`{"format":"compress-plan/v1","steps":[{"decision":{"a":[1e5,-0,{"":null}]}}]}`))
	f.Add([]byte(`{"format":"compress-plan/v2"}`))
	f.Add([]byte(`[[[["]","\""]]]]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err == nil {
			again, err := Encode(p)
			if err != nil || !bytes.Equal(again, data) {
				t.Fatalf("accepted a file that is not canonical: %v", err)
			}
		}
		// Canonical form and layout are exercised on any value, with or without a right id.
		c, err := canonical(data)
		if err != nil {
			return
		}
		if c2, err := canonical(c); err != nil || !bytes.Equal(c, c2) {
			t.Fatalf("canonical form is not stable: %s, %s, %v", c, c2, err)
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, layout(c)); err != nil || !bytes.Equal(flat.Bytes(), c) {
			t.Fatalf("layout changed the value: %s, %s, %v", c, flat.Bytes(), err)
		}
	})
}
