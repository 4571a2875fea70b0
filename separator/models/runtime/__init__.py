"""How a network runs: on the processor, step by step, compiled kernels."""
