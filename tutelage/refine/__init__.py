"""Iterative Refinement with Explanations: the loop over a model, whoever marks its steps, and the store (docs/refining.md)."""
