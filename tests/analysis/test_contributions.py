"""What each order adds is homogeneous, and all together are the model."""

import contextlib

import keras
import numpy as np
import pytest

from pinets_tf.analysis import NotPolynomial, contributions, degree, register_layer, truncate
from pinets_tf.layers import CCP, NCP, Injection
from pinets_tf.models import linear_generator, resnet
from tests.conformance.cases import ALL, ON_TENSORFLOW, numpy, randomise, tensorflow_only

# On JAX Keras normalises float64 in float32.
EXACT = 1e-12 if ON_TENSORFLOW else 1e-5


POLYNOMIALS = {name: case for name, case in ALL.items() if degree(case.make()) is not None}


def close(x, y, scale=None):
    """Whether two arrays agree up to rounding, of numbers of the size of `y` or `scale`."""
    return np.abs(x - y).max() <= EXACT * np.abs(y if scale is None else scale).max()


@contextlib.contextmanager
def float64():
    keras.config.set_dtype_policy("float64")
    # `keras.Input` rounds to floatx under every policy.
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def network():
    with float64():
        features = resnet((6, 6, 2), 3, stage_blocks=(1, 1), order=2, width=2, gate=False)
        model = keras.Model(features.inputs, keras.layers.Dense(3)(features.layers[-2].output), name="network")
    randomise(model)
    return model


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_every_layer_is_the_sum_of_its_homogeneous_parts(name):
    case = POLYNOMIALS[name]
    layer = case.make(dtype="float64")
    layer.build(case.input_shape)
    randomise(layer)
    z = case.batch(2, "float64")
    y = numpy(layer(z))
    parts = contributions(layer, z)
    assert parts.shape == (degree(layer) + 1, *y.shape) and parts.dtype == np.float64
    assert close(parts.sum(0), y)
    scaled = contributions(layer, [-0.7 * x for x in z] if isinstance(z, list) else -0.7 * z)
    for n, (part, of_scaled) in enumerate(zip(parts, scaled)):
        assert np.abs(part).max() > 0 or n == 0
        assert close(of_scaled, (-0.7) ** n * part, part)
    assert close(contributions(layer, z, max_order=1), parts[:2], parts)


@pytest.mark.parametrize("cls", [CCP, NCP])
def test_truncated_layers(cls):
    layer = cls(4, 3, rank=6, dtype="float64")
    layer.build((None, 5))
    randomise(layer)
    z = np.random.default_rng(0).normal(size=(3, 5))
    parts = contributions(layer, z)
    for order in range(5):
        assert close(numpy(truncate(layer, order)(z)), parts[: order + 1].sum(0))
    injection = Injection(offset=True, dtype="float64")
    maps, latents = z[:, None], np.ones((3, 2))
    injection([maps, latents])
    randomise(injection)
    assert close(numpy(truncate(injection, 2)([maps, latents])), numpy(injection([maps, latents])))


def test_a_network_without_its_higher_orders(network, tmp_path):
    z = np.random.default_rng(0).normal(size=(3, 6, 6, 2))
    parts, y = contributions(network, z), numpy(network(z))
    assert parts.shape == (5, 3, 3) and close(parts.sum(0), y)
    assert close(numpy(truncate(network, 4)(z)), y)
    affine = truncate(network, 1)
    middle = numpy(affine((z[:1] + z[1:2]) / 2))
    assert close(middle, (numpy(affine(z[:1])) + numpy(affine(z[1:2]))) / 2)
    # The statistics of batch normalisations are not those of the batch, and stay as they are.
    statistics = [numpy(weight) for weight in network.non_trainable_weights]
    assert close(numpy(affine(z, training=True)), parts[:2].sum(0))
    assert all(map(np.array_equal, statistics, map(numpy, network.non_trainable_weights)))
    affine.save(tmp_path / "affine.keras")
    loaded = keras.models.load_model(tmp_path / "affine.keras")
    network.layers[-1].bias.assign_add(np.ones(3))
    assert close(numpy(loaded(z)), parts[:2].sum(0)) and close(numpy(affine(z)), parts[:2].sum(0) + 1)
    network.layers[-1].bias.assign_add(-np.ones(3))


@tensorflow_only
def test_a_generator():
    with float64():
        model = linear_generator(latent=3, width=0.02)
    before_tanh = keras.Model(model.inputs, model.layers[-2].output)
    randomise(before_tanh)
    z = np.random.default_rng(0).normal(size=(2, 3))
    parts = contributions(before_tanh, z)
    assert len(parts) == degree(before_tanh) + 1 == 55
    assert close(parts.sum(0), numpy(before_tanh(z)), parts)


@tensorflow_only
def test_a_deep_network_up_to_an_order():
    network = resnet((8, 8, 1), 3, stage_blocks=(2, 2, 2, 2), order=3, width=2, gate=False)
    z = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    assert degree(network) == 3**8
    parts = contributions(network, 1e-4 * z, max_order=2)
    assert parts.shape == (3, 2, 3)
    # What is left out is of the third order.
    assert np.abs(numpy(network(1e-4 * z)) - parts.sum(0)).max() < 1e-2 * np.abs(parts[2]).max()


def test_several_inputs_and_outputs_and_your_own_layers():
    class Tripled(keras.layers.Layer):
        def call(self, x):
            return 3 * x + 1

    class Products(keras.layers.Layer):
        def call(self, inputs):
            x, y = inputs
            return keras.ops.matmul(keras.ops.expand_dims(x, 1), keras.ops.expand_dims(y, 2))

    register_layer(Tripled, "linear")
    register_layer(Products, "product")
    with float64():
        a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
        tripled = Tripled()(a)
        outputs = {"product": Products()([tripled, b]), "sum": 2 - tripled * (b + 1) + a * 0.5}
        model = keras.Model({"a": a, "b": b}, outputs)
    rng = np.random.default_rng(0)
    z = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=(3, 4))}
    parts, y = contributions(model, z), model(z)
    assert degree(model) == {"product": 2, "sum": 2}
    assert all(close(parts[name].sum(0), numpy(y[name])) for name in y)
    a, b = z["a"], z["b"]
    assert close(parts["product"][:, :, 0, 0], np.stack([0 * b.sum(1), b.sum(1), 3 * (a * b).sum(1)]))
    assert close(parts["sum"], np.stack([1 + 0 * a, -2.5 * a - b, -3 * a * b]))
    assert close(numpy(truncate(model, 1)(z)["sum"]), 1 - 2.5 * a - b)


class Cube(keras.layers.Layer):
    def call(self, x):
        return x**3


def built(layer):
    layer.build((None, 5))
    return layer


def test_errors():
    z = np.zeros((2, 5), "float32")
    for function in (lambda model: contributions(model, z), lambda model: truncate(model, 1)):
        with pytest.raises(NotPolynomial, match=r"Received: the layer softmax.*, which is none of these.* Remove it"):
            function(keras.Sequential([keras.Input((5,)), keras.layers.Softmax()]))
        with pytest.raises(ValueError, match=r"network with its weights\. Received: <CCP.*, or was not built.* Pass"):
            function(CCP(3, 2, rank=4))
    register_layer(Cube, lambda degree: 3 * degree)
    with pytest.raises(NotPolynomial, match=r"follow from .* Received: the layer cube of type Cube.* Make it of such"):
        contributions(keras.Sequential([keras.Input((5,)), Cube(name="cube")]), z)
    with pytest.raises(ValueError, match=r"as many inputs as it takes\. Received: 2 inputs for .* takes 1\. Pass one"):
        contributions(built(CCP(3, 2, rank=4)), [z, z])
    for order in (-1, True, 1.5):
        with pytest.raises(ValueError, match=rf"last order .* Received: max_order={order}\. Pass a number from 0"):
            contributions(built(CCP(3, 2, rank=4)), z, max_order=order)
        with pytest.raises(ValueError, match=rf"last order .* Received: order={order}\. Pass a number from 0"):
            truncate(built(CCP(3, 2, rank=4)), order)


@tensorflow_only
def test_a_quantised_layer_is_no_polynomial():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, name="rounds")])
    model.quantize("int8")
    with pytest.raises(NotPolynomial, match=r"rounds its inputs.* Received: the layer rounds with .*'int8'\. Pass the"):
        contributions(model, np.zeros((2, 5)))
