"""Measurements of a trained model: images, Fréchet distance, agreement, cost, speed."""
