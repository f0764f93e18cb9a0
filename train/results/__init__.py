"""docs/results.md: the paper's tables beside our own numbers, made from JSON by `train.report`."""
