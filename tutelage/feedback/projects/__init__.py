"""Projects: their questions, guidelines, settings and members; their deletion."""
