"""The commands, one module each; `goalworker.__main__` imports the one that is run."""
