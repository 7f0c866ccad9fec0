"""Pure in-memory index of goals, and matching of events against it."""
