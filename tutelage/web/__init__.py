"""The web app: people give feedback in a browser; programs do through the same API under /api/v1."""
