"""Rewards that are checked against a ground truth, which travels in `Prompt.reference`."""
