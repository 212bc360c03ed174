"""The degree read off the graph is the degree that is measured."""

import keras
import pytest

from pinets_tf.analysis import NotPolynomial, degree, register_layer
from pinets_tf.layers import CCP, NCP, PolynomialResidual
from pinets_tf.layers.learned_constant import LearnedConstant
from pinets_tf.models import resnet
from tests.conformance.cases import every_layer, randomise
from tests.polynomial_degree import assert_polynomial_degree, multiplies_in_float64, normalises_in_float64


@every_layer
def test_agrees_with_the_measured_degree(case):
    layer = case.make(dtype="float64")
    if getattr(layer, "gate", False) and layer.normalize in (None, "batch", "affine"):
        assert degree(layer) == layer.order
    elif case.degree is None or getattr(layer, "normalize", None) == "instance":
        with pytest.raises(NotPolynomial):
            degree(layer)
    else:
        assert degree(layer) == case.degree


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
    with pytest.raises(NotPolynomial, match=r"the layer mixed of type Mixed, .* say with `analysis\.register_layer`"):
        degree(model)
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


def test_names_the_layer_to_blame():
    network = resnet((8, 8, 1), 3, stage_blocks=(1,), activation="relu", width=4)
    with pytest.raises(NotPolynomial, match=r"layer activation.* of type Activation with activation relu"):
        degree(network)
    with pytest.raises(
        NotPolynomial, match=r"Received: the layer ccp with normalize='instance'\. Use normalize='batch'"
    ):
        degree(CCP(3, 2, rank=4, normalize="instance", name="ccp"))
    with pytest.raises(NotPolynomial, match=r"of type Softmax, which is none of these, or not known\. Remove it"):
        degree(keras.layers.Softmax())
    with pytest.raises(
        ValueError, match=r"functional or sequential .* Received: plain, which is not functional\. Pass"
    ):
        degree(keras.Model(name="plain"))
