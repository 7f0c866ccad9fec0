"""Looks at Kafka and at what waits for it, for the shell's commands and the console."""
