"""Faster fetching than aiokafka's own, with the same results."""
