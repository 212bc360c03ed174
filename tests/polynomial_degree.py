"""The law that every polynomial layer obeys: its finite differences vanish above its degree, and only there."""

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()
# Keras 3.15 on PyTorch multiplies matrices of float64 in float32, and on JAX and PyTorch takes means, roots and tanh of
# float64 in float32 (on JAX with JAX_ENABLE_X64 too).
multiplies_in_float64 = pytest.mark.skipif(BACKEND == "torch", reason="Keras multiplies float64 in float32 on PyTorch")
normalises_in_float64 = pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras normalises float64 in float32 here")

_REACH = 3.0


def assert_polynomial_degree(function, shape, degree, lines=4):
    """Asserts that `function` is a polynomial of exactly `degree` along random lines through its inputs.

    Args:
        function: a float64 Keras layer or model, or any function of a batch.
        shape: the shape of one input, without the batch.
        degree: N. The (N+1)-th differences along each line must vanish, the N-th must not.
        lines: how many lines are tried.
    """
    rng = np.random.default_rng(7)
    for _ in range(lines):
        top, above, rounding = differences(function, rng.normal(size=shape), rng.normal(size=shape), degree)
        assert above <= 100 * rounding, f"degree above {degree}: difference {above:.2g}, rounding {rounding:.2g}"
        assert top > 1e3 * rounding, f"degree below {degree}: difference {top:.2g}, rounding {rounding:.2g}"


def differences(function, start, direction, degree):
    """Returns the largest N-th and (N+1)-th difference along a line, and the rounding error to expect in them."""
    steps = np.linspace(-_REACH, _REACH, degree + 2)
    points = start + steps.reshape(-1, *[1] * start.ndim) * direction / np.sqrt(start.size)
    values = keras.ops.convert_to_numpy(function(points)).reshape(len(steps), -1)
    assert values.dtype == np.float64, "differences of high order need float64"
    top = np.abs(np.diff(values, n=degree, axis=0)).max()
    above = np.abs(np.diff(values, n=degree + 1, axis=0)).max()
    rounding = 2.0 ** (degree + 1) * np.finfo(np.float64).eps * np.abs(values).max()
    return top, above, rounding
