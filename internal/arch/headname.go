package arch

// HeadModule is the name of an output head of its own in every supported family: what an untied head is written as, and
// what quantization configurations call it.
const HeadModule = "lm_head"
