"""Find, load, save and publish models."""

from separator.zoo.registry import DOWNLOADABLE, ModelInfo, bundled, find, load, load_described, names

__all__ = ["DOWNLOADABLE", "ModelInfo", "bundled", "find", "load", "load_described", "names"]
