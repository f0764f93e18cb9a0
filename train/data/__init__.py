"""Data sets: folders and files of pictures, labels, batches, token caches."""
