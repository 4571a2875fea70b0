"""Reads and writes recordings: formats, samples, paths, whole files or none."""
