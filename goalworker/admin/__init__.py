"""Work of operators, which the commands of the shell start."""
