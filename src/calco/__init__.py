"""calco: from a folder of images and masks to a binary segmentation model you can trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["CalcoError", "Config", "Predictor", "__version__", "load", "train"]

if TYPE_CHECKING:
    from calco.api import load, train
    from calco.config import Config
    from calco.errors import CalcoError
    from calco.inference.predictor import Predictor


def __getattr__(name: str) -> object:
    """Import the public names when they are first used, so that ``import calco`` is instant."""
    match name:
        case "load" | "train":
            from calco import api

            return getattr(api, name)
        case "Config":
            from calco.config import Config

            return Config
        case "Predictor":
            from calco.inference.predictor import Predictor

            return Predictor
        case "CalcoError":
            from calco.errors import CalcoError

            return CalcoError
        case _:
            raise AttributeError(f"module 'calco' has no attribute {name!r}")
