"""The public teachers' own samplers, from a checkout that the user brings."""
