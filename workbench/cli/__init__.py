"""The command line: one file for each group of commands, the same calls that a notebook makes."""
