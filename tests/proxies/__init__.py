"""Sends refused requests through nginx and haproxy."""
