"""The pictures of README and docs/, of the real executable with sample events: `make pictures`."""
