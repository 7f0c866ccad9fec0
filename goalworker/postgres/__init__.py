"""PostgreSQL: connections, errors, tables, migrations."""
