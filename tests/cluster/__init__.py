"""Checks of what is in k8s/ in a real cluster: every event that was accepted is counted once, whatever happens to pods,
servers and secrets meanwhile."""
