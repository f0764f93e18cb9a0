"""Several processes: what they must agree on, that they live, and states that they share."""
