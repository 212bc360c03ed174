"""What `keras.json` may say: where channels are, and the type of numbers."""

import keras
import numpy as np
import pytest

from pinets_tf.layers import NCP, PolynomialResidual
from tests.analysis.test_degree_of_models import NONE, POLYNOMIAL
from tests.conformance.cases import ALL, FIRST, numpy, randomise, tensorflow_only

pytestmark = tensorflow_only

NETWORKS = {name: make for name, (make, _) in (POLYNOMIAL | NONE).items()}
# How much an answer may change, beside the largest.
ROUNDING = {"float64": 1e-4, "float16": 0.02, "bfloat16": 0.15}


@pytest.fixture
def configure():
    """Returns a function that sets what `keras.json` says, until the test ends."""

    def setting(image_data_format="channels_last", floatx="float32"):
        keras.config.set_image_data_format(image_data_format)
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)

    yield setting
    setting()


def inputs_of(network):
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, *network.input_shape[1:])).astype("float32")


def moved(x):
    """Returns maps with channels first; vectors are what they are."""
    return np.moveaxis(x, -1, 1) if x.ndim > 2 else x


def has_format(case):
    return any(hasattr(part, "data_format") for part in case.make()._flatten_layers())


def normalises_as_keras(case):
    """Whether there is a normalisation of Keras inside, which takes the axis that it is given."""
    return any(type(part) is keras.layers.BatchNormalization for part in case.make()._flatten_layers())


@pytest.mark.parametrize(
    "name", [name for name, case in ALL.items() if has_format(case) and not normalises_as_keras(case)]
)
def test_layers_take_channels_where_the_configuration_says(name, configure):
    case = ALL[name]
    expected = case.make()
    expected.build(case.input_shape)
    randomise(expected)
    batch = case.batch()
    first = [moved(batch[0]), batch[1]] if isinstance(batch, list) else moved(batch)
    configure("channels_first")
    layer = case.make()
    layer(first)
    layer.set_weights(expected.get_weights())
    np.testing.assert_allclose(numpy(layer(first)), moved(numpy(expected(batch))), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, case in FIRST.values() if not has_format(case)])
def test_other_layers_have_features_last(name, configure):
    case = ALL[name]
    expected = case.make().compute_output_shape(case.input_shape)
    configure("channels_first")
    assert case.make().compute_output_shape(case.input_shape) == expected


def test_operators_and_branches_of_several_layers(configure):
    configure("channels_first")
    conv = keras.Sequential([keras.layers.Conv2D(4, 3, padding="same"), keras.layers.Conv2D(4, 1)])
    layer = NCP(7, 2, operator=conv, normalize="batch")
    assert layer.channel_axis == 1
    assert layer(np.ones((2, 3, 6, 5), "float32")).shape == (2, 7, 6, 5)
    nested = keras.Sequential([keras.Sequential([keras.layers.Conv2D(3, 3, padding="same")])])
    block = PolynomialResidual(nested, 3, normalize="batch")
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
    y = numpy(block(moved(x), training=True))
    configure()
    same = PolynomialResidual(keras.layers.Conv2D(3, 3, padding="same"), 3, normalize="batch")
    same(x)
    same.branch.set_weights(nested.get_weights())
    np.testing.assert_allclose(y, moved(numpy(same(x, training=True))), rtol=1e-4, atol=1e-4)


# Types of 16 bits matter where layers update statistics themselves.
TYPES = [(name, "float64") for name, _ in FIRST.values()] + [
    (name, floatx)
    for name in ("BatchNormalization", "NCPSkip-conv-batch")
    if name in ALL
    for floatx in ("float16", "bfloat16")
]


@pytest.mark.parametrize(("name", "floatx"), TYPES)
def test_layers_compute_in_the_type_of_the_configuration(name, floatx, configure):
    case = ALL[name]
    expected = case.make()
    expected.build(case.input_shape)
    randomise(expected)
    answer, weights = numpy(expected(case.batch())), expected.get_weights()
    configure(floatx=floatx)
    inputs = case.each(keras.Input)
    layer = case.make()
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights(weights)
    assert model.outputs[0].dtype == layer.compute_dtype == floatx
    check(model, case.batch(), answer, floatx)


@pytest.mark.parametrize(
    "floatx", ["float64", *(pytest.param(floatx, marks=pytest.mark.long) for floatx in ("float16", "bfloat16"))]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_channels_last_and_compute_in_every_type(name, floatx, configure):
    expected = NETWORKS[name]()
    x = np.random.default_rng(0).normal(size=(2, *expected.input_shape[1:])).astype("float32")
    answer = numpy(expected(x))
    configure("channels_first", floatx)
    network = NETWORKS[name]()
    assert (network.input_shape, network.output_shape) == (expected.input_shape, expected.output_shape)
    network.set_weights(expected.get_weights())
    check(network, x, answer, floatx)


def check(model, x, answer, floatx):
    y = numpy(model(x)).astype("float64")
    assert np.abs(y - answer).max() <= ROUNDING[floatx] * max(1.0, np.abs(answer).max())
    assert np.isfinite(numpy(model(x, training=True)).astype("float64")).all()
