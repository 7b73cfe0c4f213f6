"""The embedded runner: one machine, one log, exactly-once by journal and replay."""
