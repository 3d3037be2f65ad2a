"""Aggregators that come with fedelta: one module for each family. What one is, `fedelta.parts.Aggregator` says."""
