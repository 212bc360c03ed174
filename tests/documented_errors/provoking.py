"""A case of an error, and what the tables of several rooms provoke errors with."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from pinets_tf.mesh import deformed_spheres


class Case(NamedTuple):
    """A function of an empty folder, and words of each of the three parts of its error."""

    provoke: Callable[[Path], object]
    rule: str
    received: str
    remedy: str


def without(package, provoke):
    """Returns `provoke` where a package is not installed."""

    def provoke_without(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            provoke(path)

    return provoke_without


def written(path, content=b"damaged"):
    path.write_bytes(content)
    return path


def arrays(path, **others):
    """Writes four images, four shapes and other arrays into one file, and returns its path."""
    x, y, shapes = np.zeros((4, 8, 8, 3), "uint8"), np.arange(4) % 2, deformed_spheres(4, 1)
    np.savez(
        path / "set.npz",
        x_train=x,
        y_train=y,
        x_test=x,
        y_test=y,
        vertices=shapes.vertices,
        faces=shapes.faces,
        **others,
    )
    return path / "set.npz"


def dense(**options):
    inputs = keras.Input((4,), **options)
    return keras.Model(inputs, keras.layers.Dense(2)(inputs), name="dense")


def fails(x):
    raise RuntimeError("out of order")


STYLEGAN = "tests/models/test_stylegan.py::test_error_says_rule_received_remedy"
