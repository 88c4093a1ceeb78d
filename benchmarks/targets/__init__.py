"""What many targets cost one exporter."""
