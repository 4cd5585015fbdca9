package llamacpp

import "modelpress/internal/arch"

// tensors lists what the file holds, in the order of the forward pass.
func (d *describer) tensors() {
	m := d.src
	if m.Rope != nil && m.Rope.Type == "llama3" {
		f := llama3Factors(m.Rope, m.Layers[0].K)
		d.tensor(Tensor{Name: nameRopeFreqs, Shape: shape(len(f)), Values: f, Layer: -1})
	}
	d.tensor(Tensor{Name: nameEmbed, Shape: shape(m.V, m.D), From: m.Embed, Use: Embed, Layer: -1})
	if m.PosEmbed != "" {
		d.tensor(Tensor{Name: namePosition, Shape: shape(m.MaxPosition, m.D), From: m.PosEmbed, Use: Position, Layer: -1})
	}
	for l := range m.Layers {
		d.layer(l, &m.Layers[l])
	}
	d.norm(nameOutputNorm, m.FinalNorm, m.D, -1)
	// Builds before 2026 do not load gpt2 without an output of its own.
	if !m.Tied || d.out.Architecture == archGPT2 {
		d.tensor(Tensor{Name: nameOutput, Shape: shape(m.V, m.D), From: m.LMHead, Use: Output, Layer: -1})
	}
}

func (d *describer) tensor(t Tensor) {
	t.Vector = len(t.Shape) == 1
	d.out.Tensors = append(d.out.Tensors, t)
}

func shape(n ...int) []int64 {
	out := make([]int64, len(n))
	for i, v := range n {
		out[i] = int64(v)
	}
	return out
}

func (d *describer) layer(l int, a *arch.Layer) {
	d.norm(inLayer(l, nameAttnNorm, ""), a.AttnNorm, d.src.D, l)
	for r := range arch.NumRoles {
		switch {
		case r == arch.O:
			d.norm(inLayer(l, nameQNorm, ""), a.QNorm, a.K, l)
			d.norm(inLayer(l, nameKNorm, ""), a.KNorm, a.K, l)
		case r == arch.Gate:
			d.norm(inLayer(l, nameFFNNorm, ""), a.FFNNorm, d.src.D, l)
		}
		d.linear(l, a, r)
	}
}

func (d *describer) norm(name string, n arch.Norm, width, layer int) {
	if n.Weight != "" {
		d.tensor(Tensor{Name: name + ".weight", Shape: shape(width), From: n.Weight, Layer: layer})
	}
	if n.Bias != "" {
		d.tensor(Tensor{Name: name + ".bias", Shape: shape(width), From: n.Bias, Layer: layer})
	}
}

// linear adds a projection with its bias. What q, k and v share stands once, under q.
func (d *describer) linear(l int, a *arch.Layer, r arch.Role) {
	lin := a.Linears[r]
	name, use := linears[r].name, linears[r].use
	fused := r <= arch.V && a.Linears[arch.Q].Weight == a.Linears[arch.V].Weight
	if !lin.Present() || fused && r != arch.Q {
		return
	}
	heads := 0
	switch {
	case fused:
		name, use = nameQKV, AttnQKV
	case r == arch.Q && permutes(d.out.Architecture):
		heads = a.H
	case r == arch.K && permutes(d.out.Architecture):
		heads = a.G
	}
	d.tensor(Tensor{Name: inLayer(l, name, ".weight"), Shape: shape(lin.StoredOut, lin.In), From: lin.Weight, Heads: heads,
		Transposed: lin.Transposed, Use: use, Layer: l})
	if lin.Bias != "" {
		d.tensor(Tensor{Name: inLayer(l, name, ".bias"), Shape: shape(lin.StoredOut), From: lin.Bias, Heads: heads, Layer: l})
	}
}
