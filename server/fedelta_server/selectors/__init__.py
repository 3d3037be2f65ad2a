"""Selectors that come with fedelta: one module each. What a selector is, `fedelta.parts.Selector` says."""
