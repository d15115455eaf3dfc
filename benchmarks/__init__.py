"""What Tutelage takes for fixed pieces of work, beside TRL for the same work.  `make bench`; see docs/benchmarks.md."""
