"""Verdicts of judges on pairs, as other tools store them in files."""
