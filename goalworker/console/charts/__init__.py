"""Charts as SVG, made on the server by pure functions: the same data makes the same bytes."""
