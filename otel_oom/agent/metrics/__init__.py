"""Metrics of the agent itself."""
