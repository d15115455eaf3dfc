"""What trainers read from a store."""
