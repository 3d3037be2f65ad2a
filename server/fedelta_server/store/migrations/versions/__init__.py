"""The steps of the journal's schema, in order."""
