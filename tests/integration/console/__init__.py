"""Pages of the console over HTTP, with a PostgreSQL."""
