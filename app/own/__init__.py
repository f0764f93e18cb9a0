"""A visitor's own picture, what the model makes of it, and whether a sample is new."""
