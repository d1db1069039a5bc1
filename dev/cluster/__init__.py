"""A real Kubernetes on this machine: built from sources, started without Docker, in namespaces of its own."""
