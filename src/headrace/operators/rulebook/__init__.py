"""Rules: records that people change, compiled together and judged over frames."""
