"""`python -m separator.evaluate model=NAME data.list=LIST.csv`: scores a model on a list of mixtures."""
