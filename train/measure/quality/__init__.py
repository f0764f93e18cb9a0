"""How good samples are: both extractors, the split, path length, nearest training images."""
