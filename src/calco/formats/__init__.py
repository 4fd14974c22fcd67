"""What data looks like on disk."""
