package testmodel

// PlantedCase is one named planted model.
type PlantedCase struct {
	Name    string
	Options PlantedOptions
}

// PlantedCases returns planted models of several sizes and GQA ratios in a fixed order, each with all kinds of heads but
// the first, which is that of [NewPlanted].
func PlantedCases() []PlantedCase {
	return []PlantedCase{
		{"plain", PlantedOptions{Seed: 1}},
		{"two-parts", PlantedOptions{Layers: 3, H: 8, G: 4, K: 64, BOS: true, Noise: 0.1, Seed: 2,
			Places: Scatter(3, 4, Counts{Induction: 2, Sink: 2, Local: 2, Echo: 1}, 2)}},
		{"mha", PlantedOptions{Layers: 4, H: 8, G: 8, K: 32, BOS: true, Noise: 0.1, Seed: 3,
			Places: Scatter(4, 8, Counts{Induction: 3, Sink: 4, Local: 3, Echo: 2}, 3)}},
		{"gqa4-one-query", PlantedOptions{Layers: 5, H: 8, G: 2, K: 32, BOS: true, OneQuery: true, Noise: 0.1, Seed: 4,
			Places: Scatter(5, 2, Counts{Induction: 4, Sink: 1, Local: 1, Echo: 1}, 4)}},
		{"gqa8", PlantedOptions{Layers: 6, H: 16, G: 2, K: 32, BOS: true, Noise: 0.1, Seed: 5,
			Places: Scatter(6, 2, Counts{Induction: 4, Sink: 2, Local: 2, Echo: 1}, 5)}},
		{"small", PlantedOptions{Layers: 4, H: 4, G: 2, K: 64, BOS: true, OneQuery: true, Noise: 0.1, Seed: 6,
			Places: Scatter(4, 2, Counts{Induction: 3, Sink: 1, Local: 1, Echo: 1}, 6)}},
	}
}

// NamedPlanted returns the model of [PlantedCases] with that name. It panics where there is none.
func NamedPlanted(name string) *Planted {
	for _, c := range PlantedCases() {
		if c.Name == name {
			return Plant(c.Options)
		}
	}
	panic("testmodel: no planted case " + name)
}
