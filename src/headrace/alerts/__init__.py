"""Where notifications go: channels as descriptions, and what they do with a notification."""
