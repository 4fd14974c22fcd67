"""Searching settings: what may be tried, and the study that workers share."""
