"""A study: a grid over settings, stages that cells share run once, and one report of all cells."""
