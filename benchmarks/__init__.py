"""Measurements, not tests: what the machine gives, and what fedelta makes of it."""
