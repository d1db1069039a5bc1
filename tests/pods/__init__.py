"""Runs the pods of an overlay as declared, without a cluster."""
