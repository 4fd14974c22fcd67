"""Scores of masks and probabilities, from whole numbers of pixels and objects."""
