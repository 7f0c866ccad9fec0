"""Helpers that several suites share: oracles, servers, processes, shells."""
