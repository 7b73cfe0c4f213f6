"""HTTP, WebSocket and the dashboard in front of the log; knows no operator."""
