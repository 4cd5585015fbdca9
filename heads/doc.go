// Package heads measures what each attention head does with distant tokens, and decides which KV heads must keep the
// whole cache and which can live on a few sink tokens and a recent window.
//
// The unit of decision is the KV head: a window for a single query head saves no cache under grouped-query attention.
// Query head h belongs to KV head h/(H/G), the layout of Hugging Face checkpoints; scores of a group are the maximum over
// its query heads, since one retrieving head is enough to need the cache.
//
// A method is a measure of one forward pass and a planner. Measures return [Scores], or a type of the method's own that holds
// what was found; planners, which are called Write or WriteX, narrow one plan that [Draft] made and keep the scores in it as
// evidence, each method's apart from the others'.
//
// Nothing here holds a T×T matrix. Every measure is made from the queries, keys and values of one layer and the
// log-sum-exp of each row of scores: the attention of query i to key j is exp(scale·q_i·k_j − lse_i).
package heads
