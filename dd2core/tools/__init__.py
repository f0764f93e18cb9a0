"""Helpers without a formula: devices, timing, numerics, pictures."""
