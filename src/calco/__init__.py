"""calco: from a folder of images and masks to a binary segmentation model you can trust."""

__version__ = "0.1.0"
