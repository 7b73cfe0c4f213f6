"""Models: what they are, the processes they run in, and which version is in use."""
