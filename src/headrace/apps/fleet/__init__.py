"""fleet: compliance of autonomous underwater vehicles with zones."""
