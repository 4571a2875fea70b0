"""`python -m separator.train +recipe=NAME`: trains a network on mixtures."""
