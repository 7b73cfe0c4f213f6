"""The vocabulary: time, schema, component, protocols, errors, registry, settings. No I/O."""
