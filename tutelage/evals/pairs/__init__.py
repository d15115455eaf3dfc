"""Benchmarks of reward models that lie in files: which of several responses is right."""
