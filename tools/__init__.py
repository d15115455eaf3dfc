"""Chores of the repository, run as modules: python -m tools.floors, python -m tools.docs."""
