"""The fluent API: builds a plan, runs nothing."""
