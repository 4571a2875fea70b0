"""Evaluate a model on a list of mixtures: `python -m separator.evaluate model=NAME data.list=LIST.csv`."""
