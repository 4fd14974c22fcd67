"""From image to mask with a trained network."""
