"""Operators, one file each: pure, columnar, deterministic."""
