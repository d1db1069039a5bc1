"""Tests that are not Rust: each folder is a package that runs from the root of the checkout."""
