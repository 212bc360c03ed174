"""The degree read off the graph is the degree that is measured."""

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.analysis import contributions, degree, first_not_polynomial, register_layer
from pinets_tf.layers import CCP, NCP, PolynomialResidual
from pinets_tf.layers.generation.learned_constant import LearnedConstant
from pinets_tf.models import resnet
from tests.conformance.cases import every_layer, randomise
from tests.polynomial_degree import assert_polynomial_degree, multiplies_in_float64, normalises_in_float64


@every_layer
def test_agrees_with_the_measured_degree(case):
    layer = case.make(dtype="float64")
    if getattr(layer, "gate", False) and layer.normalize in (None, "batch", "affine"):
        assert degree(layer) == layer.order
    elif case.degree is None or getattr(layer, "normalize", None) == "instance":
        assert degree(layer) is None
        assert first_not_polynomial(layer) is not None
    else:
        assert degree(layer) == case.degree
        assert first_not_polynomial(layer) is None


@normalises_in_float64
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("stage_blocks", [(1,), (1, 1), (2, 1)])
def test_resnet(order, stage_blocks):
    keras.config.set_dtype_policy("float64")
    # `keras.Input` rounds to floatx under every policy.
    keras.config.set_floatx("float64")
    network = resnet((8, 8, 1), 3, stage_blocks=stage_blocks, order=order, width=4, gate=False)
    keras.config.set_floatx("float32")
    scores = keras.Model(network.inputs, keras.layers.Dense(3, dtype="float64")(network.layers[-2].output))
    randomise(scores)
    assert degree(scores) == degree(network) == order ** sum(stage_blocks)
    assert_polynomial_degree(scores, (8, 8, 1), degree(scores))


@multiplies_in_float64
def test_products_and_sums_of_a_graph():
    z = keras.Input((4,), dtype="float64")
    options = {"dtype": "float64"}
    cubic, square = NCP(5, 3, rank=6, **options)(z), NCP(5, 2, rank=6, **options)(z)
    product = keras.layers.Multiply(**options)([cubic, square])
    model = keras.Model(z, keras.layers.Add(**options)([product, keras.layers.Dense(5, **options)(z)]))
    assert degree(model) == 5
    assert_polynomial_degree(model, (4,), 5)


@multiplies_in_float64
def test_operators_of_higher_degree():
    z = keras.Input((4,), dtype="float64")
    block = PolynomialResidual(NCP(4, 3, rank=4, dtype="float64"), 3, dtype="float64")
    model = keras.Model(z, block(z))
    assert degree(model) == 5
    assert_polynomial_degree(model, (4,), 5)


def test_several_outputs_and_the_arithmetic_of_tensors():
    z = keras.Input((4,))
    square = NCP(4, 2, rank=3)(z)
    outputs = {"a": 1 - square * z * 2, "b": [z, LearnedConstant((4,))(z)]}
    assert degree(keras.Model(z, outputs)) == {"a": 3, "b": [1, 0]}
    inner = keras.Model(z, [square, keras.layers.Dense(4)(z)])
    of_inner = inner(keras.layers.Multiply()([z, z]))
    assert degree(keras.Model(z, keras.layers.Concatenate()(of_inner))) == 4
    assert degree(keras.Model(z, of_inner[1])) == 2


def test_a_graph_deeper_than_calls_may_be():
    z = x = keras.Input((1,))
    for _ in range(700):
        x = -x
    assert degree(keras.Model(z, x)) == 1


class Gate(keras.layers.Layer):
    def call(self, inputs):
        x, y = inputs
        return x * y * y


class Mixed(Gate):
    """A layer of yours of which the base is known."""


class ClippedDense(keras.layers.Dense):
    def call(self, inputs):
        return keras.ops.clip(super().call(inputs), -1, 1)


def test_layers_of_your_own():
    z = keras.Input((4,))
    square = NCP(4, 2, rank=3)(z)
    model = keras.Model(z, Mixed()([z, square]))
    assert degree(model) is None
    assert first_not_polynomial(model) == "mixed"
    register_layer(Gate, lambda x, y: x + 2 * y)
    assert degree(model) == 5
    register_layer(Gate, "product")
    assert degree(model) == 3
    register_layer(Mixed, "sum")
    assert degree(model) == 2
    register_layer(ClippedDense, lambda degree: 7 * degree)
    assert degree(keras.Model(z, ClippedDense(2, activation="relu")(square))) == 14


def test_errors_of_registering():
    with pytest.raises(ValueError, match=r"classes of Keras layers\. Received: <Dense .*\. Pass the class itself"):
        register_layer(keras.layers.Dense(2), "linear")
    with pytest.raises(ValueError, match=r"one of 'linear', .* Received: kind='affine' for Gate\. Pass one of those"):
        register_layer(Gate, "affine")


def test_names_the_first_layer_that_is_none():
    network = resnet((8, 8, 1), 3, stage_blocks=(1,), activation="relu", width=4)
    assert degree(network) is None
    assert network.get_layer(first_not_polynomial(network)).activation is keras.activations.relu
    ccp = CCP(3, 2, rank=4, normalize="layer", name="ccp")
    assert first_not_polynomial(ccp) == "ccp"
    ccp.build((None, 5))
    assert first_not_polynomial(ccp) == "ccp/normalize_2"
    z = keras.Input((4,))
    branch = keras.Sequential([keras.layers.Dense(4, activation="tanh", name="bent")], name="branch")
    block = PolynomialResidual(branch, 2, name="block")
    assert first_not_polynomial(keras.Model(z, block(z))) == "block/branch/bent"


def test_each_output_by_itself():
    z = keras.Input((4,))
    scores = NCP(3, 2, rank=4)(z)
    after = keras.layers.Softmax(name="softmax")(scores)
    model = keras.Model(
        z, {"scores": scores, "shares": after, "both": [keras.layers.Concatenate()([scores, after]), z]}
    )
    assert degree(model) == {"scores": 2, "shares": None, "both": [None, 1]}
    assert first_not_polynomial(model) == {"scores": None, "shares": "softmax", "both": ["softmax", None]}
    inner = keras.Model(z, [scores, after], name="inner")
    first, second = inner(keras.layers.Multiply()([z, z]))
    outer = keras.Model(z, [first, second, keras.layers.Dense(2)(second)])
    assert degree(outer) == [4, None, None]
    assert first_not_polynomial(outer) == [None, "inner/softmax", "inner/softmax"]
    states = keras.layers.LSTM(2, return_state=True, name="lstm")(keras.layers.Reshape((2, 2))(z))
    assert first_not_polynomial(keras.Model(z, states)) == ("lstm",) * 3


def test_errors():
    words = r"functional or sequential .* Received: plain, which is not functional\. Pass"
    plain = keras.Model(name="plain")
    for function in (degree, first_not_polynomial):
        with pytest.raises(ValueError, match=words):
            function(plain)


Z = (4, 4, 3)
# What the functions of `keras.ops` make of z, and the degree that it has.
OPERATIONS = {
    "reshape, transpose": (lambda z: ops.transpose(ops.reshape(z, (-1, 16, 3)), (0, 2, 1)), 1),
    "index": (lambda z: z[:, 1:, ..., 0] - z[..., 3, 1][:, :3, None], 1),
    "power": (lambda z: z**5 + ops.square(z) / 2, 5),
    "power of a product": (lambda z: (z * z) ** 3.0, 6),
    "sum": (lambda z: ops.sum(z * z, axis=(1, 2)) - ops.sum(z, axis=[1, 2]), 2),
    "matrices": (lambda z: ops.matmul(z, ops.transpose(z, (0, 1, 3, 2))) @ z, 3),
    "constant matrices": (lambda z: ops.dot(z, ops.ones((3, 2), "float64")) @ ops.ones((2, 5), "float64"), 1),
    "Einstein's sum": (lambda z: ops.einsum("bijc,bjkc,...cd->bikd", z, z, ops.ones((3, 2), "float64")), 2),
    "stack, split": (lambda z: ops.split(ops.stack([z, z * z], axis=1), 2, axis=-2)[1], 2),
    "pad, take, flip": (lambda z: ops.flip(ops.take(ops.pad(z, ((0, 0), (1, 1), (0, 0), (0, 0))), [0, 3], 1), 1), 1),
    "pool, repeat": (lambda z: ops.repeat(ops.average_pool(z, 2, (2, 2)), 2, axis=1)[:, :, :1] * z, 2),
    "tile": (lambda z: ops.tile(z, 2) + ops.einsum("bijc,cz", z, ops.ones((3, 6), "float64")), 1),
    "expand, squeeze, tile": (lambda z: ops.squeeze(ops.tile(ops.expand_dims(z, 1), (1, 1, 2, 1, 1)), 1) ** 2, 2),
    "concatenate, cumulate": (lambda z: ops.cumsum(ops.concatenate([z, z * z], -1), axis=2), 2),
}
NO_POLYNOMIALS = {
    "divisor": lambda z: 1 / z,
    "root": lambda z: z**0.5,
    "exponent": lambda z: 2**z,
    "maximum": lambda z: ops.max(z, axis=-1),
    "integers": lambda z: ops.cast(ops.cast(z, "int32"), "float64"),
    "indices": lambda z: ops.take(ops.ones((3, 4), "float64"), ops.cast(z, "int32"), axis=0),
    # The elements of a batch are no longer treated alone.
    "mean of the batch": lambda z: z - ops.mean(z, axis=0, keepdims=True),
    "cut into more elements": lambda z: ops.reshape(z, (-1, 12)),
    "one batch after another": lambda z: ops.concatenate([z, z], axis=0),
    "turned batch": lambda z: ops.flip(z, 0),
    "one row": lambda z: ops.ravel(z),
    "cut into more of any length": lambda z: ops.reshape(z[:, :, :1], (-1, 3)),
    "products of elements": lambda z: ops.einsum("bijc,aijc->ab", z, z),
}


@multiplies_in_float64
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name):
    function, expected = OPERATIONS[name]
    z = keras.Input(Z, dtype="float64")
    model = keras.Model(z, function(z))
    assert degree(model) == expected
    assert_polynomial_degree(model, Z, expected)
    numbers = np.random.default_rng(0).normal(size=(2, *Z))
    parts, y = contributions(model, numbers), ops.convert_to_numpy(model(numbers))
    assert len(parts) == expected + 1
    assert np.abs(parts.sum(0) - y).max() <= 1e-12 * np.abs(y).max()


@pytest.mark.parametrize("name", NO_POLYNOMIALS)
def test_operations_that_are_none(name):
    z = keras.Input(Z, dtype="float64")
    assert degree(keras.Model(z, NO_POLYNOMIALS[name](z))) is None


def test_layers_around_layers():
    z = keras.Input((5, 4))
    scores = keras.layers.Dot(axes=2)([keras.layers.TimeDistributed(keras.layers.Dense(4))(z), z])
    assert degree(keras.Model(z, scores)) == 2
    assert degree(keras.layers.TimeDistributed(keras.layers.Dense(4, activation="relu"))) is None
    assert degree(keras.layers.Dot(axes=2, normalize=True)) is None
    resized = ops.image.resize(
        keras.layers.Resizing(8, 8)(keras.layers.CenterCrop(4, 4)(keras.Input((9, 9, 3)))), (4, 4)
    )
    assert degree(resized._keras_history.operation) == 1
    assert degree(ops.mean(resized, axis=(1, 2))._keras_history.operation) == 1
