"""Programs that try to break things: seeded, bounded, countable; see docs/reliability.md."""
