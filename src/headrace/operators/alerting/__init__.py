"""Alerts: their states, what changes them, and who is told."""
