"""What should run, as data: nodes, topics, tables; checked and explained before anything starts."""
