"""The command `eval outputs`: outputs from anywhere, read from files and measured against references."""
