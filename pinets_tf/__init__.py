"""Π-nets, networks whose output is a high-order polynomial of the input, for Keras 3."""

from pinets_tf import layers

__version__ = "0.1.0"

__all__ = ["__version__", "layers"]
