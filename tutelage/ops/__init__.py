"""Floor 0: pure tensor maths. Imports torch and nothing of ours; one value per unit, never a reduced loss."""
