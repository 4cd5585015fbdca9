package manifest

import (
	"strconv"
	"strings"
)

// The kernel of Block-Sparse-Attention takes a type and two numbers of blocks for each query head.
const (
	blockSparseBlock = 128
	blockSparseDense = 0
	blockSparseSink  = -1 // streaming; 1 is a mask that the caller computes
	blockSparseFile  = "block_sparse_heads.json"
)

var blockSparseFormat = &Format{
	Name: "block-sparse", Readers: "Block-Sparse-Attention (kernel arguments, an object for each layer)", Files: blockSparseFile,
	Condition: "prefill is full or streaming with sink and recent in multiples of 128; decoding is full; no min_seq",
	write:     writeBlockSparse, read: readBlockSparse,
}

func writeBlockSparse(x *export) error {
	x.denseDecoding()
	layers := make([]string, len(x.entries))
	sparse := false
	for l, row := range x.prefill() {
		types, info := make([]int, len(row)), make([]int, 0, 2*len(row))
		for q, id := range row {
			pol := x.p.Policies[id]
			sink, recent := 0, 0
			switch pol.Kind {
			case KindFull:
			case KindStreaming:
				sparse = true
				types[q], sink, recent = blockSparseSink, blocksOf(pol.Sink), blocksOf(pol.Recent)
				if pol.Sink%blockSparseBlock != 0 || pol.Recent%blockSparseBlock != 0 {
					x.loseAt(l, x.group(l, q), "sink %d and recent %d: rounded up to blocks of %d", pol.Sink, pol.Recent, blockSparseBlock)
				}
				if pol.Compensation {
					x.loseAt(l, x.group(l, q), "the compensation token")
				}
			default:
				x.loseAt(l, x.group(l, q), "kind %s: written as dense", pol.Kind)
			}
			info = append(info, sink, recent)
		}
		layers[l] = `{"head_mask_type": ` + pyInts(types) + `, "streaming_info": ` + pyInts(info) + "}"
	}
	x.minSeq(sparse)
	if sparse {
		x.note("the kernel's windows are whole blocks: the first query of a block sees up to %d keys fewer than the last one", blockSparseBlock-1)
	}
	x.file(blockSparseFile, []byte("["+strings.Join(layers, ", ")+"]"))
	return nil
}

func blocksOf(tokens int) int { return (tokens + blockSparseBlock - 1) / blockSparseBlock }

func readBlockSparse(r *reader) error {
	f, err := r.only()
	if err != nil {
		return err
	}
	var list []map[string][]int
	if err := r.decode(f, &list); err != nil {
		return err
	}
	if err := r.layers(f.Name, len(list)); err != nil {
		return err
	}
	for l, layer := range list {
		types, info := layer["head_mask_type"], layer["streaming_info"]
		if err := r.width(f.Name, l, len(types), r.qHeads); err != nil {
			return err
		}
		if len(info) != 2*len(types) {
			return r.bad(f.Name, "layer %d: %d numbers in streaming_info for %d heads", l, len(info), len(types))
		}
		ids := make([]string, len(types))
		for q, kind := range types {
			sink, recent := info[2*q], info[2*q+1]
			switch {
			case kind == blockSparseDense && sink == 0 && recent == 0:
				ids[q] = "full"
			case kind == blockSparseSink && sink >= 0 && sink <= maxTokens/blockSparseBlock && recent >= 1 && recent <= maxTokens/blockSparseBlock:
				if ids[q], err = r.policy("s", Streaming(sink*blockSparseBlock, recent*blockSparseBlock)); err != nil {
					return err
				}
			case kind > 0:
				return r.bad(f.Name, "layer %d head %d: its block mask is not in the file", l, q)
			default:
				return r.bad(f.Name, "layer %d head %d: type %s with %d and %d blocks", l, q, strconv.Itoa(kind), sink, recent)
			}
		}
		r.prefill(l, ids)
	}
	return nil
}
