"""Models that learn while they predict."""
