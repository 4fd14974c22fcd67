"""Pixels: decoding, masks, augmentation, look-alikes, tiles, generated data, figures."""
