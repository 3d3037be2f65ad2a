"""Stop rules that come with fedelta: one module each. What a stop rule is, `fedelta.parts.StopRule` says."""
