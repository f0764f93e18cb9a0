"""Measurements: their schema, their files, and the tables made of them."""
