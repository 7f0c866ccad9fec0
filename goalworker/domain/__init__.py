"""Pure rules: what the words of the contract mean, without I/O."""
