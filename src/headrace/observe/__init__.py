"""Metrics and structured logs of every process."""
