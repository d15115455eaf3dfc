"""What the numbers of a run say about it: causes, settings to change, healthy ranges. Pure Python."""
