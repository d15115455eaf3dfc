"""What the votes of a project say, as numbers and as figures."""
