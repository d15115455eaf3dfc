"""Feedback that needs no web page: simulated annotators vote through the same store as people."""
