"""Run causal networks on audio that is still arriving."""
