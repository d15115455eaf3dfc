"""Files into the store: prompts, responses, items, votes, whole projects."""
