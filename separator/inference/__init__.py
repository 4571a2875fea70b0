"""Run trained networks on recordings of any length."""
