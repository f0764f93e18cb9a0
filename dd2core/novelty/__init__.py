"""Is an image new? The nearest training images of it, in a classifier's features."""
