"""Assistants of judges: who looks at responses first, and says what was found."""
