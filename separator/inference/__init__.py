"""Runs trained networks on recordings of any length."""
