"""Tutelage: teach a language model from people's feedback, and from AI feedback, end to end."""

__version__ = "0.1.0"
