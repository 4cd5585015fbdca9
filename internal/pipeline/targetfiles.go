package pipeline

// files checks what lies beside the weights, and what their files say of themselves.
func (c *checker) files() {
	if len(c.c.RemoteCode) > 0 && c.is("hf", "vllm", "sglang", "tensorrt-llm") {
		what := join(c.c.RemoteCode)
		if c.is("vllm") {
			c.require(ruleCode, atKey("auto_map"), "remove the code and auto_map, or use a release after 0.13", "the checkpoint brings code (%s), and releases 0.10.1 to 0.13 run it even without trust_remote_code; this verdict is on the class of the library", what)
		} else {
			c.require(ruleCode, atKey("auto_map"), "load it without trust_remote_code, or remove the code", "the checkpoint brings code (%s); this verdict is on the class of the library", what)
		}
	}
	c.metadata()
	c.tokenizer()
}

// metadata checks what transformers asks of safetensors files.
func (c *checker) metadata() {
	if !c.is("hf") {
		return
	}
	for _, s := range c.c.Shards {
		switch {
		case s.Metadata == nil:
			c.require(ruleFormatPT, atKey(s.File), `write __metadata__ with "format":"pt"`, "the file has no __metadata__, which older releases fail on")
		case s.Metadata["format"] != "pt":
			c.refuse(ruleFormatPT, atKey(s.File), `write "format":"pt" into __metadata__`, `__metadata__ does not say "format":"pt"`)
		default:
			continue
		}
		return
	}
}

// tokenizer says what text needs.
func (c *checker) tokenizer() {
	switch {
	case !c.c.Tokenizer && c.is("vllm", "sglang", "tensorrt-llm", "mlx"):
		c.require(ruleTokenizer, atKey("tokenizer.json"), "put the files of the tokenizer beside the weights, or name another directory to the server", "there is no tokenizer, which a server needs")
	case !c.c.Tokenizer && c.is("llama.cpp"):
		c.require(ruleTokenizer, atKey("tokenizer.json"), "put the files of the tokenizer beside the weights", "there is no tokenizer: the library loads the weights without, its server and its converter do not")
	case c.c.Tokenizer && !c.c.ChatTemplate && c.is("vllm", "sglang", "tensorrt-llm", "llama.cpp"):
		c.note("no chat template: chat requests need one of the server's")
	}
}
