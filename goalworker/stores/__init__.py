"""Queries and changes on the database for the API, the shell and the worker."""
