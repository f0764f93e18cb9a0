"""Settings: their schema, the command line, and the list of stages."""
