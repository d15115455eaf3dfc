"""The card of a reward model: what lets a careful reader decide whether to trust it."""
