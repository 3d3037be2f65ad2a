"""A whole federation on one machine and on real data."""
