"""Token sequences on disk: sets of files that are written by all processes and memory-mapped."""
