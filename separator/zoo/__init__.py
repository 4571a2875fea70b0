"""Finds, loads, saves and publishes models."""

from separator.zoo.registry import DOWNLOADABLE, Known, bundled, find, load, load_described, names

__all__ = ["DOWNLOADABLE", "Known", "bundled", "find", "load", "load_described", "names"]
