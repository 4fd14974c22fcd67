"""Losses, optimisers, clock and history."""
