"""The history of the journal's schema: `env.py` is what Alembic runs, `versions` has one script for each step.

A script never changes once it was part of a release, and imports nothing of fedelta: what it does must not change with
the code. A step that is added names the one before it, and `_migrate.HEAD` names it.
"""
