"""What a person does with the dashboard, in a real browser on a real demonstration."""
