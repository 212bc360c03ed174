"""Layers that the package has never seen: one file is enough."""
