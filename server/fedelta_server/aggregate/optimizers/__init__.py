"""Server optimizers that come with fedelta. What one is, `fedelta.parts.ServerOptimizer` says."""
