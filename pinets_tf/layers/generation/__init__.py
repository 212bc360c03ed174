"""Layers of generators and discriminators."""
