"""Benchmarks, on servers of their own."""
