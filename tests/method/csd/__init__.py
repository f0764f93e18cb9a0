"""Training steps of CSD: the adversarial term, batches in several passes."""
