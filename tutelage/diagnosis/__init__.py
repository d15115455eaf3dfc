"""What the numbers of an on-policy run say about it: causes, settings to change, healthy ranges. Pure Python."""
