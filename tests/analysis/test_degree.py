"""The degree read off the graph is the degree that is measured."""

import keras
import pytest

from pinets_tf.analysis import NotPolynomial, degree
from pinets_tf.layers import CCP, NCP, PolynomialResidual
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
