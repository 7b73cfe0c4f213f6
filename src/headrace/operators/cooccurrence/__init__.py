"""Co-occurrence: which kinds of events come soon after which, and how often."""
