"""Offline training, evaluation and benchmarks; every module here is a command line."""
