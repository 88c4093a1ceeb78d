"""What a scrape costs: this exporter, prometheus-client's own server, a Go exporter and a static file."""
