"""Patterns over the rows of a key: what they are, and the automaton that finds them."""
