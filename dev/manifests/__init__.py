"""Checks of the Kubernetes manifests, the alerts and the dashboard."""
