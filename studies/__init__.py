"""Longer experiments whose numbers stand in docs/LOG.md: `python -m studies.NAME`."""
