"""What runs in processes of its own, away from training: standard library only (and sympy, for maths)."""
