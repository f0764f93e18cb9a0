"""What every training stage runs on: loop, run folder, optimisers, several processes."""
