"""A file for each rule of docs/counting.md."""
