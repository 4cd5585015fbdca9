package convert

import (
	"modelpress/formats"
	"modelpress/internal/checkpoint"
)

// inOrder lists the tensors of a model's dense view in the order in which they lie in the files.
func inOrder(c *checkpoint.Checkpoint) []formats.TensorInfo {
	q := c.Quantized
	if q == nil {
		return c.DataOrder()
	}
	weightOf := map[string]string{}
	for _, t := range q.Tensors() {
		if s, ok := q.Storage(t.Name); ok {
			for _, name := range s.Tensors {
				weightOf[name] = t.Name
			}
		}
	}
	var list []formats.TensorInfo
	seen := map[string]bool{}
	for _, t := range c.DataOrder() {
		name := t.Name
		if w, ok := weightOf[name]; ok {
			name = w
		}
		shown, ok := q.Lookup(name)
		if ok && !seen[name] {
			list = append(list, shown)
			seen[name] = true
		}
	}
	for _, t := range q.Tensors() {
		if !seen[t.Name] {
			list = append(list, t)
		}
	}
	return list
}
