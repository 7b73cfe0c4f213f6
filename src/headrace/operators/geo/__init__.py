"""Places on the globe: GeoJSON shapes and an index that finds which of them hold a point."""
