"""The coordinator of fedelta: it runs jobs, keeps models, and averages what clients push."""
