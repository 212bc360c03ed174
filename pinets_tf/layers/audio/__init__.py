"""Layers of sounds."""
