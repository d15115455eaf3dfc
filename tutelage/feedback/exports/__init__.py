"""Answers as files for trainers and for keeping."""
