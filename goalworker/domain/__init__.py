"""Pure rules of the contract, without I/O."""
