package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// schemaChecker evaluates the part of JSON Schema that the schema file uses; a keyword outside of it fails the test.
type schemaChecker struct {
	t    *testing.T
	root map[string]any
}

// bytes returns why a document fails, "" where it passes.
func (c schemaChecker) bytes(doc []byte) string {
	var v any
	if err := json.NewDecoder(bytes.NewReader(doc)).Decode(&v); err != nil {
		return err.Error()
	}
	return c.check(c.root, v, "$")
}

func (c schemaChecker) check(s map[string]any, v any, at string) string {
	for key, arg := range s {
		if msg := c.keyword(s, key, arg, v, at); msg != "" {
			return msg
		}
	}
	return ""
}

func (c schemaChecker) keyword(s map[string]any, key string, arg, v any, at string) string {
	switch key {
	case "$schema", "$id", "title", "description", "$defs", "then":
		return ""
	case "$ref":
		name := strings.TrimPrefix(arg.(string), "#/$defs/")
		return c.check(c.root["$defs"].(map[string]any)[name].(map[string]any), v, at)
	case "type":
		return fail(c.isType(arg, v), at, "type is not %v", arg)
	case "const":
		return fail(reflect.DeepEqual(v, arg), at, "is not %v", arg)
	case "enum":
		for _, e := range arg.([]any) {
			if reflect.DeepEqual(v, e) {
				return ""
			}
		}
		return fail(false, at, "is none of %v", arg)
	case "anyOf":
		for _, e := range arg.([]any) {
			if c.check(e.(map[string]any), v, at) == "" {
				return ""
			}
		}
		return fail(false, at, "fits no alternative")
	case "allOf":
		for _, e := range arg.([]any) {
			if msg := c.check(e.(map[string]any), v, at); msg != "" {
				return msg
			}
		}
		return ""
	case "if":
		if c.check(arg.(map[string]any), v, at) == "" {
			return c.check(s["then"].(map[string]any), v, at)
		}
		return ""
	}
	switch x := v.(type) {
	case map[string]any:
		return c.object(s, key, arg, x, at)
	case []any:
		return c.array(key, arg, x, at)
	case string:
		switch key {
		case "pattern":
			return fail(regexp.MustCompile(arg.(string)).MatchString(x), at, "does not match %v", arg)
		case "minLength":
			return fail(len(x) >= int(arg.(float64)), at, "is too short")
		}
	case float64:
		switch key {
		case "minimum":
			return fail(x >= arg.(float64), at, "is under %v", arg)
		case "maximum":
			return fail(x <= arg.(float64), at, "is over %v", arg)
		case "exclusiveMinimum":
			return fail(x > arg.(float64), at, "is not over %v", arg)
		}
	}
	c.known(key)
	return ""
}

// known fails the test on a keyword that is not evaluated.
func (c schemaChecker) known(key string) {
	switch key {
	case "properties", "required", "additionalProperties", "propertyNames", "minProperties", "items", "minItems", "maxItems",
		"uniqueItems", "pattern", "minLength", "minimum", "maximum", "exclusiveMinimum":
	default:
		c.t.Fatalf("the test does not know the keyword %q", key)
	}
}

func (c schemaChecker) object(s map[string]any, key string, arg any, x map[string]any, at string) string {
	props, _ := s["properties"].(map[string]any)
	switch key {
	case "properties":
		for name, sub := range props {
			if v, ok := x[name]; ok {
				if msg := c.check(sub.(map[string]any), v, at+"."+name); msg != "" {
					return msg
				}
			}
		}
	case "required":
		for _, name := range arg.([]any) {
			if _, ok := x[name.(string)]; !ok {
				return fail(false, at, "%v is missing", name)
			}
		}
	case "additionalProperties":
		for name, v := range x {
			if _, ok := props[name]; !ok {
				if msg := c.check(arg.(map[string]any), v, at+"."+name); msg != "" {
					return msg
				}
			}
		}
	case "propertyNames":
		for name := range x {
			if msg := c.check(arg.(map[string]any), name, at+"."+name); msg != "" {
				return msg
			}
		}
	case "minProperties":
		return fail(len(x) >= int(arg.(float64)), at, "is too small")
	default:
		c.known(key)
	}
	return ""
}

func (c schemaChecker) array(key string, arg any, x []any, at string) string {
	switch key {
	case "items":
		for i, v := range x {
			if msg := c.check(arg.(map[string]any), v, fmt.Sprintf("%s[%d]", at, i)); msg != "" {
				return msg
			}
		}
	case "minItems":
		return fail(len(x) >= int(arg.(float64)), at, "is too short")
	case "maxItems":
		return fail(len(x) <= int(arg.(float64)), at, "is too long")
	case "uniqueItems":
		for i := range x {
			for j := range i {
				if reflect.DeepEqual(x[i], x[j]) {
					return fail(false, at, "has equal items")
				}
			}
		}
	default:
		c.known(key)
	}
	return ""
}

func (c schemaChecker) isType(arg, v any) bool {
	names, ok := arg.([]any)
	if !ok {
		names = []any{arg}
	}
	for _, n := range names {
		switch x := v.(type) {
		case nil:
			ok = n == "null"
		case bool:
			ok = n == "boolean"
		case string:
			ok = n == "string"
		case float64:
			ok = n == "number" || n == "integer" && x == math.Trunc(x)
		case []any:
			ok = n == "array"
		case map[string]any:
			ok = n == "object"
		}
		if ok {
			return true
		}
	}
	return false
}

func fail(ok bool, at, format string, args ...any) string {
	if ok {
		return ""
	}
	return at + " " + fmt.Sprintf(format, args...)
}
