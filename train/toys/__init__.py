"""Images of a few tokens whose whole distribution is known: every claim can be checked exactly."""
