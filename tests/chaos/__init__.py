"""Kills, freezes and cuts off every process under load, then counts."""
