"""Folding changes no answer."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import without_products
from pinets_tf.layers import CCP, NCP, NCPSkip, PolynomialResidual, PooledProduct, SpiralPolynomial
from pinets_tf.layers.polynomial.horner import HornerLayer
from pinets_tf.models import fold_normalization
from tests.conformance.cases import SPIRALS, numpy, randomise


def residual(**options):
    return PolynomialResidual(keras.layers.Conv2D(3, 3, padding="same"), **options)


def spiral(**options):
    return SpiralPolynomial(4, SPIRALS, **options)


CASES = [
    ((5, 3), spiral, {"order": 2, "normalize": "vertex_batch", "gate": True}),
    ((5, 3), spiral, {"order": 3, "normalize": "vertex_batch", "keep": [3, 0], "residual": True}),
    ((5, 3), spiral, {"order": 3, "normalize": "vertex_batch", "variant": "simple", "normalize_at": "order"}),
    ((5, 3), spiral, {"order": 4, "normalize": "batch", "normalize_at": "last", "gate": True, "use_bias": False}),
    ((6, 6, 3), residual, {"order": 3, "normalize": "batch", "gate": True}),
    ((6, 6, 3), residual, {"order": 2, "normalize": "batch", "normalize_at": "order"}),
    ((6, 6, 3), lambda **options: PooledProduct(keras.layers.Dense(3), 3, **options), {"normalize": "batch"}),
]
MATRICES = {"units": 4, "order": 4, "rank": 6, "normalize": "batch"}
MAPS = {"units": 4, "order": 3, "operator": keras.layers.Conv2D(6, 3, padding="same"), "normalize": "batch"}
INTO_THE_MAPS = [
    ((5,), NCP, MATRICES, None),
    ((5,), NCP, {**MATRICES, "normalize_at": "order", "gate": True}, None),
    ((5,), NCP, {**MATRICES, "normalize_at": "last"}, None),
    ((5, 5), NCP, {**MATRICES, "use_bias": False}, "offset"),
    ((5,), NCP, {**MATRICES, "rank": 5, "identity_factors": True}, "affine"),
    ((5,), NCPSkip, MATRICES, "offset"),
    ((5,), NCPSkip, {**MATRICES, "normalize_at": "order"}, "affine"),
    ((5,), CCP, {**MATRICES, "gate": True}, "offset"),
    ((5,), CCP, {**MATRICES, "gate": True, "normalize_at": "last"}, "affine"),
    ((6, 6, 3), NCP, {**MAPS, "gate": True}, "offset"),
    ((6, 6, 3), CCP, MAPS, "offset"),
]


@pytest.mark.parametrize(
    ("shape", "make", "options", "normalize"), [(*case, "affine") for case in CASES] + INTO_THE_MAPS
)
def test_the_same_at_inference(shape, make, options, normalize):
    inner = keras.Sequential([keras.Input(shape), make(**options), keras.layers.Flatten()], name="inner")
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)))
    for layer in (*inner.layers, *model.layers[2:]):
        randomise(layer)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    expected, before = numpy(model(x)), model.get_weights()

    folded = fold_normalization(model)
    (polynomial,) = (layer for layer in folded.layers[1].layers if isinstance(layer, HornerLayer))
    found = polynomial.get_config()["normalize"]
    assert (found and found.removeprefix("vertex_")) == normalize
    np.testing.assert_allclose(numpy(folded(x)), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert folded.count_params() < model.count_params()
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_folded_model_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((5, 3)), spiral(order=2, normalize="vertex_batch", gate=True)])
    randomise(model.layers[0])
    folded = fold_normalization(model)
    folded.save(tmp_path / "folded.keras")
    x = np.ones((2, 5, 3), "float32")
    np.testing.assert_array_equal(numpy(keras.models.load_model(tmp_path / "folded.keras")(x)), numpy(folded(x)))


def test_other_layers_are_left():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), CCP(4, 2, rank=6, normalize="layer")])
    folded = fold_normalization(model)
    assert [type(layer) for layer in folded.layers] == [keras.layers.Dense, CCP]
    assert folded.layers[1].normalize == "layer"
    np.testing.assert_array_equal(numpy(folded(np.ones((2, 5)))), numpy(model(np.ones((2, 5)))))


def test_half_precision_keeps_scale_and_offset_in_float32():
    model = keras.Sequential(
        [keras.Input((5,)), CCP(4, 3, rank=6, normalize="batch", gate=True, dtype="mixed_float16")]
    )
    randomise(model.layers[0])
    folded = fold_normalization(model)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    expected = numpy(model(x)).astype("float32")
    np.testing.assert_allclose(numpy(folded(x)).astype("float32"), expected, atol=2e-3 * np.abs(expected).max())
    assert {w.dtype for w in folded.weights} == {"float32"}


@pytest.mark.parametrize("model", [keras.Sequential([keras.layers.Dense(2)]), keras.layers.Dense(2)])
def test_errors(model):
    with pytest.raises(ValueError, match=r"built functional or sequential model. Received: <.* Pass one of"):
        fold_normalization(model)


def test_adapted_statistics_are_kept():
    keras.utils.set_random_seed(0)
    samples = np.random.default_rng(0).normal(5, 3, (64, 5)).astype("float32")
    adapted = keras.layers.Normalization()
    adapted.adapt(samples)
    model = keras.Sequential([keras.Input((5,)), adapted, NCP(3, order=2, rank=4, normalize="batch")])
    for copy in (fold_normalization(model), without_products(model, 1)):
        np.testing.assert_allclose(copy(samples), model(samples), rtol=1e-4, atol=1e-4)
