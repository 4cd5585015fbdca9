// Package kvmerge merges the KV heads of a transformer: groups of t of them become one, so that an ordinary grouped-query model
// results, which any runtime loads (arXiv:2305.13245 for the form; "Effectively Compress KV Heads for LLM", arXiv:2406.07056,
// for the idea of doing it by low rank).
//
// What a group shares is a linear image of what its members had, x̂ = Σ_g E_g·x_g, and each member is read back as x_g ≈ D_g·x̂.
// Both maps are fused into the projections: E into those of keys and values, D into those of queries and outputs. Maps come
// from second moments of keys and values over calibration windows. Under a rotary embedding, those of keys are complex numbers
// for each frequency, which commute with the rotation.
//
// [Stats] collects the moments, [Stats.Solve] makes [Maps] of them for a way of merging, [Grouping] chooses who shares, and [View] shows the
// merged checkpoint.
package kvmerge
