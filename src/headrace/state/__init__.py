"""Keyed state: declared tables, checkpoints, drift checks."""
