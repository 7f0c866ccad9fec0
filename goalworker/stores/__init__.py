"""Rows as people and services ask for them."""
