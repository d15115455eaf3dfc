"""`tutelage doctor`: what a run will stand on, checked before it costs anything.

`check`: one line of the result.  `asked`: what is to be checked, from the command's settings or from those of a run.  A file for
every group of checks.  `command`: all of them, told as they come.  Libraries that are slow to load are imported where they are
used.
"""
