// Package pipeline makes plans and carries them out. It owns recipes, the order of work, memory, the journal and resuming;
// it does no maths. Plan looks at a checkpoint and its calibration data and decides everything; Apply streams the checkpoint
// block by block through the decisions of a plan into a directory that becomes the result by one rename; Verify and
// Evaluate look at results.
package pipeline
