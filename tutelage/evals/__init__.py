"""Evaluations: one file each, every one returns tidy rows; `evaluate` runs them, `report` shows them."""
