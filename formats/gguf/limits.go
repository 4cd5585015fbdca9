package gguf

// Limits on what a file may hold, all its splits together. They are many times the largest seen, and keep a hostile file from costing
// more than a small multiple of the bytes that it has.
const (
	MaxHeaderBytes = 128 << 20 // of everything before the data: metadata and list of tensors
	MaxKeys        = 1 << 16
	MaxTensors     = 1 << 16
	MaxSplits      = 1000    // files of one model, all of which are open at once
	MaxAlignment   = 1 << 16 // the largest page of a common processor
	MaxNameBytes   = 63      // ggml: GGML_MAX_NAME is 64, with the zero byte at the end
	MaxDimensions  = 4       // ggml: GGML_MAX_DIMS
)

// maxKeyBytes is the limit of the specification (docs/gguf.md of ggml: gguf_metadata_kv_t).
const maxKeyBytes = 1<<16 - 1

// defaultAlignment holds where general.alignment is not there.
const defaultAlignment = 32

// minAlignment: the specification asks for a multiple of 8. It binds what is written; ggml reads every power of two.
const minAlignment = 8

// The versions of the format that are read. They differ in what big-endian files are called, which are not read; the last is written.
const (
	version2 = 2
	version3 = 3
)

const magic = "GGUF"

// The keys that have a meaning here.
const (
	keyAlignment    = "general.alignment"
	keySplitNo      = "split.no"
	keySplitCount   = "split.count"
	keySplitTensors = "split.tensors.count"
)
