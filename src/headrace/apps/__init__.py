"""The built-in applications, one folder each; they use nothing but the public API."""
