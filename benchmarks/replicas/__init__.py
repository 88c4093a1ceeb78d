"""What several replicas on PostgreSQL cost."""
