"""Ways to run a network: a form for CPUs, block by block, with recorded steps, with compiled kernels."""
