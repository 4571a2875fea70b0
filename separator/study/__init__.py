"""`python -m separator.study task=copy`: measures what temporal convolutions remember."""
