"""`python -m separator.study task=copy`: measure how far temporal convolutions remember."""
