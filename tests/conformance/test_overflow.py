"""Products that pass the largest float16 are normalised or are named; none is infinite in silence."""

import numpy as np
import pytest

from pinets_tf.analysis import first_not_finite
from pinets_tf.layers import (
    NCP,
    GATConv,
    Injection,
    LogMelSpectrogram,
    PooledProduct,
    SpectralNormalization,
    SpiralPolynomial,
    VertexResample,
    VertexStandardization,
)
from pinets_tf.layers.polynomial.decomposition import Polynomial
from pinets_tf.layers.polynomial.horner import HornerLayer
from pinets_tf.layers.polynomial.interpreter import Tensors, reader
from tests.conformance.cases import ALL, FIRST, ON_TENSORFLOW, numpy, randomise, tensorflow_only

pytestmark = tensorflow_only  # What float16 holds is the same on every backend.
LARGEST = 65504.0
# Each layer with orders has every order here, also without normalisation; its variants have their own.
EVERY_ORDER = {name for name, _ in FIRST.values()} | {"NCPSkip", "PolynomialResidual-order-4"}

# Means, logarithms, kernels of a given norm, a scale that is given.
BOUNDED = (LogMelSpectrogram, SpectralNormalization, VertexResample, VertexStandardization)


def orders():
    for name, case in ALL.items():
        has_steps = issubclass(case.cls, HornerLayer)
        if not (has_steps or ON_TENSORFLOW):
            # Compiling takes most of the time, and these layers have no products.
            continue
        # A pooled product of order 1 is its input.
        first = 2 if case.cls is PooledProduct else 1
        has_orders = has_steps and case.cls is not Injection and name in EVERY_ORDER and ON_TENSORFLOW
        for order in range(first, 5) if has_orders else [None]:
            yield pytest.param(name, order, id=name if order is None else f"{name}-{order}")


def built(case, order, dtype):
    layer = case.make(dtype=dtype, name="layer")
    if order is not None:
        layer = type(layer).from_config({**layer.get_config(), "order": order})
    layer.build(case.input_shape)
    return layer


class Seen(Tensors):
    """Notes the largest product of each order."""

    def __init__(self, seen, *of_masks):
        super().__init__(*of_masks)
        self.seen = seen

    def apply(self, layer, *values):
        x = super().apply(layer, *values)
        self.seen.setdefault(1, np.abs(numpy(x)).max())
        return x

    def scale(self, weight, value):
        x = super().scale(weight, value)
        if set(self.seen) <= {1}:
            self.seen[1] = np.abs(numpy(x)).max()
        return x

    def step(self, step, factor, state, **added):
        self.seen[step.n] = np.abs(numpy(factor * state)).max()
        return super().step(step, factor, state, **added)


def products_of(layer, inputs):
    """Returns the output of a layer, and the largest product of each order."""
    seen = {}
    before = reader.set(lambda _, *of_masks: Seen(seen, *of_masks))
    y = numpy(layer(inputs))
    reader.reset(before)
    return y, seen


def at_twice_the_largest(case, order):
    """Returns a layer of float64, inputs for which the product of its last order is about 2 * 65504, and its output.

    The inputs stay below 65504; where more is needed, weights grow. Layers of which neither helps come as far as this.
    """
    exact = built(case, order, "float64")
    randomise(exact)
    n = getattr(exact, "order", 1)
    batch = case.batch(dtype="float64")
    batch = batch if isinstance(batch, list) else [batch]
    # A normalised product grows with the weights rather than with what went into the one before.
    reach = (1e3 if isinstance(exact, HornerLayer) else 0.9 * LARGEST) / max(np.abs(x).max() for x in batch)
    scale, growths = 1.0, 8 if exact.trainable_weights else 0
    for _ in range(60):
        inputs = [x * scale for x in batch]
        inputs = inputs if isinstance(case.shape, list) else inputs[0]
        y, seen = products_of(exact, inputs)
        product = seen.get(n, np.abs(y).max())
        ratio = (2 * LARGEST / product) ** (1 / n)
        if abs(ratio - 1) < 0.1:
            break
        if ratio < 1 or scale < reach:
            scale = min(scale * ratio, reach)
        elif growths:
            growths -= 1
            for weight in exact.trainable_weights:
                weight.assign(weight * 2)
        else:
            break
    assert product > LARGEST or case.cls in BOUNDED
    return exact, inputs, y


@pytest.mark.parametrize(("name", "order"), list(orders()))
def test_is_normalised_or_named(name, order):
    case = ALL[name]
    exact, inputs, expected = at_twice_the_largest(case, order)
    narrow = built(case, order, "mixed_float16")
    narrow.set_weights(exact.get_weights())
    for training in (False, True) if "batch" in name else (False,):
        if training:
            expected = numpy(exact(inputs, training=True))
        found = first_not_finite(narrow, inputs, training)
        y = numpy(narrow(inputs, training=training)).astype("float64")
        if np.isfinite(y).all():
            assert np.abs(y - expected).max() <= 0.05 * np.abs(expected).max()
        else:
            assert found is not None
            assert found.layer.split("/")[0] == "layer"
            n = getattr(narrow, "order", 1)
            if isinstance(narrow, (Polynomial, SpiralPolynomial)) or (isinstance(narrow, HornerLayer) and n > 1):
                assert found.order == n
    if FIRST[case.cls][0] == name and ON_TENSORFLOW:
        wide = built(case, order, "mixed_bfloat16")
        wide.set_weights(exact.get_weights())
        assert first_not_finite(wide, inputs) is None


def test_a_product_that_tanh_makes_finite_again_is_named():
    layer = NCP(
        None, 3, rank=1, kernel_initializer="ones", normalize="tanh", normalize_at="last", dtype="mixed_float16"
    )
    inputs = np.full((1, 1), 300.0)
    assert np.isfinite(numpy(layer(inputs))).all()
    assert first_not_finite(layer, inputs).what == "product of order 2"


def test_scores_of_minus_infinity_do_not_pass_for_no_neighbours():
    # The third vertex has none but itself; 3 stands for none.
    layer = GATConv(1, [[0, 1, 3], [1, 0, 3], [2, 3, 3]], heads=1, dtype="mixed_float16")
    layer.build((None, 3, 1))
    layer.kernel.assign(np.ones((1, 1, 1)))
    layer.a.assign([[0.0, -300.0]])
    inputs = np.full((1, 3, 1), 300.0)
    assert np.isnan(numpy(layer(inputs))).all()
    assert first_not_finite(layer, inputs).what == "output"
