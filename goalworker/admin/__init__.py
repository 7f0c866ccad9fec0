"""What operators do from a shell."""
