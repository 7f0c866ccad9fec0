"""Insight: why a goal was achieved or not, what another goal would have caught, and which values were seen."""
