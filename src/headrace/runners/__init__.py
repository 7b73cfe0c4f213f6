"""Runners: what turns a plan into work."""
