"""The command `eval reasoning`: what a refinement did, measured on problems that no model has seen."""
