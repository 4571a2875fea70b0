"""Train a network on mixtures: `python -m separator.train +recipe=NAME`."""
