"""Benchmarks of process reward models that lie in files: which step of a solution is the first wrong one."""
