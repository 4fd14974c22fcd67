"""Scores from integer pixel counts."""
