"""Tests of make run and of the servers that it starts."""
