package testmodel

// Case is one named tiny checkpoint.
type Case struct {
	Name    string
	Options Options
}

// Cases returns a tiny checkpoint of every family and every rotary scaling, in a fixed order, two layers of width 64.
func Cases() []Case {
	return []Case{
		{"llama-mha", Options{Seed: 1}},
		{"llama-gqa", Options{G: 2, Seed: 2}},
		{"llama-mqa-tied", Options{G: 1, Tied: true, Seed: 3}},
		{"llama-bias", Options{G: 4, Bias: true, Seed: 4}},
		{"llama-wide-heads", Options{H: 4, G: 2, K: 32, Seed: 5}},
		{"llama-pruned", Options{Layers: 4, G: 4, PerLayer: map[int]Sizes{1: {NoAttention: true}, 2: {H: 4, G: 2, F: 96},
			3: {NoFeedFwd: true}}, Seed: 17}},
		{"llama-rope-linear", Options{G: 2, Scaling: &Scaling{Type: "linear", Factor: 4}, Seed: 6}},
		{"llama-rope-dynamic", Options{G: 2, Scaling: &Scaling{Type: "dynamic", Factor: 2}, Seed: 7}},
		{"llama-rope-llama3", Options{G: 2, Theta: 500000, Scaling: &Scaling{Type: "llama3", Factor: 8,
			LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbedded: 64}, Seed: 8}},
		{"llama-rope-yarn", Options{G: 2, Scaling: &Scaling{Type: "yarn", Factor: 4,
			OriginalMaxPositionEmbedded: 64}, Seed: 9}},
		{"mistral-swa", Options{Family: "mistral", G: 4, Window: 16, Seed: 10}},
		{"mistral-full", Options{Family: "mistral", G: 4, Seed: 11}},
		{"qwen2", Options{Family: "qwen2", G: 2, Eps: 1e-6, Seed: 12}},
		{"qwen2-tied", Options{Family: "qwen2", G: 2, Eps: 1e-6, Tied: true, Seed: 13}},
		{"qwen3", Options{Family: "qwen3", H: 4, G: 2, K: 32, Eps: 1e-6, Theta: 1e6, Seed: 14}},
		{"qwen3-tied", Options{Family: "qwen3", H: 4, G: 2, K: 32, Eps: 1e-6, Theta: 1e6, Tied: true, Seed: 15}},
		{"gpt2", Options{Family: "gpt2", Seed: 16}},
	}
}

// Named returns the checkpoint of [Cases] with that name. It panics where there is none.
func Named(name string) *Model {
	for _, c := range Cases() {
		if c.Name == name {
			return New(c.Options)
		}
	}
	panic("testmodel: no case " + name)
}

// Llama32x1B returns the shape of Llama-3.2-1B (Meta, config.json of the release): 1.24 billion parameters, random
// values.
func Llama32x1B() Options {
	return Options{
		Family: "llama", Layers: 16, D: 2048, H: 32, G: 8, K: 64, F: 8192, V: 128256, Context: 131072,
		Tied: true, Theta: 500000, Eps: 1e-5, BOS: 128000, EOS: 128001,
		Scaling: &Scaling{Type: "llama3", Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4,
			OriginalMaxPositionEmbedded: 8192},
	}
}

// Llama135M returns the shape of SmolLM-135M (Hugging Face, config.json of the release): 135 million parameters.
func Llama135M() Options {
	return Options{
		Family: "llama", Layers: 30, D: 576, H: 9, G: 3, K: 64, F: 1536, V: 49152, Context: 2048,
		Tied: true, Theta: 10000, Eps: 1e-5, BOS: 0, EOS: 0,
	}
}

// Llama38B returns the shape of Llama-3-8B (Meta, config.json of the release): 8.03 billion parameters.
func Llama38B() Options {
	return Options{
		Family: "llama", Layers: 32, D: 4096, H: 32, G: 8, K: 128, F: 14336, V: 128256, Context: 8192,
		Theta: 500000, Eps: 1e-5, BOS: 128000, EOS: 128001,
	}
}

// Llama27B returns the shape of Llama-2-7B (Meta, config.json of the release): 6.74 billion parameters, as many KV heads as query
// heads.
func Llama27B() Options {
	return Options{
		Family: "llama", Layers: 32, D: 4096, H: 32, K: 128, F: 11008, V: 32000, Context: 4096,
		Theta: 10000, Eps: 1e-5, BOS: 1, EOS: 2,
	}
}

// ScratchSeed is the seed of the weights from which the models of [Scratch] are trained in comparisons.
const ScratchSeed = 100

// Scratch returns a small untrained model for comparisons of training, for the vocabulary of the example model: "llama" (0.9
// million parameters beside the embedding), "llama-tied" or "gpt2" (both a tenth of that). It panics on another name.
func Scratch(name string) Options {
	o := Options{Layers: 2, D: 64, H: 4, F: 192, V: 1024, Context: 128, Fresh: true, Seed: ScratchSeed}
	switch name {
	case "llama":
		o.Layers, o.D, o.G, o.K, o.F = 4, 128, 2, 32, 384
	case "llama-tied":
		o.G, o.Tied = 2, true
	case "gpt2":
		o.Family = "gpt2"
	default:
		panic("testmodel: no model " + name + " to train")
	}
	return o
}
