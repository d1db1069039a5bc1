"""Tests of openapi.yaml with schemathesis, and of the docs page in Chromium."""
