"""Every factor starts with values of its own, at a scale at which no order explodes or vanishes."""

import keras
import numpy as np
import pytest

from pinets_tf.layers import CCP, NCP, NCPSkip
from tests.conformance.cases import tensorflow_only

pytestmark = tensorflow_only  # Initial values have the distribution that they have on every backend.
DECOMPOSITIONS = [CCP, NCP, NCPSkip]


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def kernels(layer):
    return [numpy(part.kernel) for part in (*layer.factors, *getattr(layer, "S", []))]


@pytest.mark.parametrize("rank", [16, 64, 512])
@pytest.mark.parametrize("features", [16, 256])
@pytest.mark.parametrize("cls", DECOMPOSITIONS)
def test_output_keeps_its_scale(cls, features, rank):
    z = np.random.default_rng(0).normal(size=(512, features)).astype("float32")
    for order in range(1, 9):
        x = numpy(cls(32, order, rank=rank)(z))
        assert 0.3 <= x.std() <= 3.0, f"order {order}: {x.std():.2f}"


@pytest.mark.parametrize("cls", DECOMPOSITIONS)
def test_convolutions_with_default_initialiser_keep_the_scale(cls):
    z = np.random.default_rng(0).normal(size=(16, 12, 12, 8)).astype("float32")
    for order in (2, 8):
        x = numpy(cls(8, order, operator=keras.layers.Conv2D(32, 3, padding="same"))(z))
        assert 0.3 <= x.std() <= 3.0, f"order {order}: {x.std():.2f}"


@pytest.mark.parametrize("order", [2, 8])
@pytest.mark.parametrize("cls", DECOMPOSITIONS)
def test_gradients_reach_every_factor(cls, order):
    layer = cls(8, order, rank=32)
    model = keras.Sequential([keras.Input((24,)), layer])
    model.compile("sgd", "mse")
    before = [numpy(weight) for weight in layer.trainable_weights]
    rng = np.random.default_rng(0)
    model.train_on_batch(rng.normal(size=(256, 24)), rng.normal(size=(256, 8)))
    for weight, old in zip(layer.trainable_weights, before):
        change = np.abs(numpy(weight) - old).max()
        assert np.isfinite(change) and change > 1e-7, f"{weight.path}: {change:.2g}"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"rank": 6}, id="default"),
        pytest.param({"rank": 6, "kernel_initializer": "he_normal"}, id="name"),
        pytest.param({"rank": 6, "kernel_initializer": keras.initializers.HeNormal()}, id="instance"),
        pytest.param({"rank": 6, "kernel_initializer": keras.initializers.HeNormal(seed=3)}, id="seeded"),
        pytest.param(
            {"rank": 6, "kernel_initializer": keras.initializers.HeNormal(seed=keras.random.SeedGenerator(3))},
            id="seed-generator",
        ),
        pytest.param({"operator": keras.layers.Dense(6)}, id="operator"),
        pytest.param(
            {"operator": keras.layers.Dense(6, kernel_initializer=keras.initializers.HeNormal(seed=3))},
            id="operator-seeded",
        ),
    ],
)
@pytest.mark.parametrize("cls", DECOMPOSITIONS)
def test_no_two_factors_are_equal(cls, options):
    layer = cls(6, 4, **options)
    layer.build((None, 6))
    values = [*kernels(layer), numpy(layer.C.kernel)]
    for i, first in enumerate(values):
        for second in values[:i]:
            assert np.abs(first - second).max() > 1e-3


def test_a_seeded_layer_repeats():
    layers = [NCP(6, 3, rank=6, kernel_initializer=keras.initializers.HeNormal(seed=3)) for _ in range(2)]
    for layer in layers:
        layer.build((None, 6))
    for first, second in zip(*map(kernels, layers)):
        np.testing.assert_array_equal(first, second)


def test_an_operator_keeps_the_initialiser_that_was_chosen_for_it():
    layer = CCP(2, 3, operator=keras.layers.Dense(4, kernel_initializer="ones"))
    layer.build((None, 3))
    assert all((kernel == 1.0).all() for kernel in kernels(layer))


def test_seeds_inside_an_operator_are_derived_too():
    noise = keras.Sequential([keras.layers.Dense(6, kernel_initializer=keras.initializers.HeNormal(seed=3))])
    layer = CCP(6, 2, operator=noise)
    layer.build((None, 6))
    first, second = (numpy(factor.layers[0].kernel) for factor in layer.factors)
    assert np.abs(first - second).max() > 1e-3
