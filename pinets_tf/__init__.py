"""Π-nets, networks whose output is a high-order polynomial of the input, for Keras 3."""

import sys

# `python -m pinets_tf.launch` starts other programs: it needs no Keras, whose backend may be one that is not installed.
if "pinets_tf.launch" not in sys.orig_argv:
    from pinets_tf import layers

__version__ = "0.1.0"

__all__ = ["__version__", "layers"]
