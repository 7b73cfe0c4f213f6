"""Connectors at work: sources into topics, topics into sinks, each with its own cursor."""
