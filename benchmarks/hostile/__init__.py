"""What hostile clients cost the exporter: its memory, and the time of a scrape meanwhile."""
