"""Pure in-memory index of goals, and matching against it."""
