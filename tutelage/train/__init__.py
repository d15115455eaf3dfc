"""THE loop (`fit.py`), and one file per algorithm."""
