"""Models as people make and call them: what is read off their graphs is what they compute, or is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.analysis import (
    NotPolynomial,
    coefficients,
    contributions,
    convert,
    degree,
    encryption_report,
    evaluate,
    first_not_finite,
    first_not_polynomial,
    grow,
    polynomial_summary,
    register_layer,
    truncate,
    without_products,
)
from pinets_tf.layers import CCP, NCP
from tests.conformance.cases import numpy, tensorflow_only
from tests.polynomial_degree import multiplies_in_float64

NUMBERS = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def one_input(make, shape=(4,)):
    z = keras.Input(shape)
    return keras.Model(z, make(z))


class Bent(keras.layers.Dense):
    def call(self, x):
        return ops.relu(super().call(x))


class BentCCP(CCP):
    def call(self, z, training=None):
        return ops.relu(super().call(z, training))


class BentModel(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return ops.relu(super().call(inputs))


class BentSequential(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return ops.relu(super().call(inputs))


class Gate(keras.layers.Layer):
    def call(self, inputs):
        return inputs[0] * inputs[1] * inputs[1]


def bent_model():
    z = keras.Input((4,))
    return BentModel(z, keras.layers.Add()([z, keras.layers.Dense(4)(z)]), name="bent")


def quantized():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="rounds")])
    model.quantize("int8")
    return model


def masked():
    x, mask = keras.Input((5, 4)), keras.Input((5,))
    return keras.Model([x, mask], keras.layers.GlobalAveragePooling1D(name="masked")(x, mask=mask))


# A model, and the path of the layer for which it is no polynomial.
OTHERWISE = {
    "training": lambda: one_input(lambda z: keras.layers.BatchNormalization(name="in_training")(z, training=True)),
    "nested": lambda: one_input(
        lambda z: keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)], name="in_training")(z, training=True)
    ),
    "mask": masked,
    "layer": lambda: one_input(Bent(3, name="bent")),
    "polynomial": lambda: one_input(BentCCP(3, 2, rank=4, name="bent")),
    "model": lambda: one_input(bent_model()),
    "sequential": lambda: one_input(BentSequential([keras.layers.Dense(4)], name="bent")),
    "batch": lambda: one_input(lambda z: keras.layers.Concatenate(axis=-2, name="batch")([z, z])),
    "quantised": quantized,
}


@tensorflow_only
@pytest.mark.parametrize("name", OTHERWISE)
def test_what_is_computed_in_another_way_is_no_polynomial(name):
    model = OTHERWISE[name]()
    assert degree(model) is None
    assert first_not_polynomial(model) in {"in_training", "masked", "bent", "batch", "rounds"}
    assert not encryption_report(model).ready
    with pytest.raises(NotPolynomial, match=r"Received: the layer (in_training|masked|bent|batch|rounds) "):
        truncate(model, 1)


def test_models_that_call_something_else_are_refused():
    inner = BentSequential([keras.Input((4,)), NCP(3, 2, rank=4)])
    for function in (
        lambda: degree(bent_model()),
        lambda: contributions(bent_model(), NUMBERS),
        lambda: convert(bent_model()),
        lambda: encryption_report(bent_model()),
        lambda: grow(inner, 3),
        lambda: grow(one_input(inner), 3),
        lambda: without_products(inner, 0),
    ):
        with pytest.raises(ValueError, match=r"[Ff]unctional (and|or) sequential|a graph of|graph of a model"):
            function()


@tensorflow_only
def test_a_converted_block_beside_a_model_that_calls_something_else():
    model = one_input(lambda z: keras.layers.Add()([z, bent_model()(keras.layers.Dense(4)(z))]))
    np.testing.assert_array_equal(numpy(convert(model)[0](NUMBERS)), numpy(model(NUMBERS)))


def by_name():
    a, b = keras.Input((3,), name="za"), keras.Input((3,), name="ab")
    return keras.Model([a, b], a * a * a + b)


def test_inputs_by_name():
    model, rng = by_name(), np.random.default_rng(0)
    given = {"za": rng.normal(size=(5, 3)).astype("float32"), "ab": np.ones((5, 3), "float32"), "more": np.ones((5, 1))}
    parts = contributions(model, given)
    np.testing.assert_allclose(parts.sum(0), given["za"] ** 3 + 1, atol=1e-5)
    z = keras.Input((3,))
    assert degree(keras.Model(z, model({"za": z, "ab": z * z}))) == 3
    outer = polynomial_summary(keras.Model(z, model({"za": z, "ab": z * z})))
    assert outer.total.degree == outer.rows[-1].degree == 3
    a = keras.Input((3,))
    of_a = contributions(keras.Model({"b": a}, a * a), {"a": np.ones((2, 1)), "b": given["ab"]})
    np.testing.assert_array_equal(of_a.sum(0), given["ab"])
    given["za"][0, 0] = np.nan
    assert first_not_finite(model, {name: given[name] for name in ("za", "ab")}).layer == "za"


def test_a_vector_for_an_input_of_one_number():
    model = one_input(lambda z: z * z, (1,))
    np.testing.assert_allclose(contributions(model, np.arange(3.0)).sum(0), [[0], [1], [4]])


def test_layers_of_several_inputs_by_themselves():
    register_layer(Gate, lambda x, y: x + 2 * y)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 3)).astype("float32")
    product = keras.layers.Multiply()
    words = r"of several inputs follows from theirs\. Received: .*, which was never called\. Call it once"
    for layer in (product, Gate()):
        with pytest.raises(ValueError, match=words):
            degree(layer)
    product.build([(None, 3), (None, 3)])
    assert degree(product) == 2
    np.testing.assert_allclose(evaluate(coefficients(product), [a, b]), a * b, atol=1e-5)
    gate = Gate()
    model = one_input(lambda z: gate([z, keras.layers.Add()([keras.layers.Dense(4)(z), z])]))
    assert degree(gate) == 3
    assert degree(convert(model)[0]) == 1 + 2 * 2


class Double(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def test_a_layer_that_says_nothing_of_its_output():
    register_layer(Double, "linear")
    layer = Double()
    layer.build((None, 4))
    np.testing.assert_array_equal(coefficients(layer).tensors[0], 2 * np.eye(4))


@multiplies_in_float64
def test_a_cast_in_the_middle_keeps_the_coefficients_exact():
    kernel = keras.layers.Dense(4)
    model = one_input(lambda z: ops.square(ops.cast(kernel(z), "float32")))
    W = numpy(kernel.kernel).astype("float64")
    expected = np.einsum("io,jo->oij", W, W)
    assert np.abs(coefficients(model).tensors[1] - expected).max() < 1e-12


def test_products_of_a_model_that_shares_a_layer():
    shared = keras.layers.Dense(4)
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    model = one_input(lambda z: NCP(3, 2, rank=2)(inner(shared(z))))
    np.testing.assert_allclose(numpy(without_products(model, 1)(NUMBERS)), numpy(model(NUMBERS)), atol=1e-6)
    q, r = keras.Input((4,)), keras.Input((4,))
    both = keras.Model([q, r], shared(q) + shared(r), name="both")
    summary = polynomial_summary(one_input(lambda z: shared(both([z, z]))))
    assert sum(row.parameters for row in summary.rows) == summary.total.parameters == 20


def test_degrees_behind_a_second_output():
    first, second = NCP(3, 2, rank=4), keras.layers.Softmax()
    z = keras.Input((6,))
    a, b = ops.split(z, 2, axis=1)
    inner = keras.Model(z, [first(a), second(b), a * b])
    summary = polynomial_summary(keras.Model(z, keras.layers.Dense(2)(inner(z)[2])))
    assert summary.rows[-1].degree == summary.total.degree == 2


class Scaled(keras.layers.Layer):
    """A layer whose config lacks what it is made from."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def get_config(self):
        return super().get_config()

    @classmethod
    def from_config(cls, config):
        return cls(config["scale"])

    def call(self, x):
        return x * self.scale


def test_calls_by_keyword_and_layers_without_config():
    for make in (
        lambda z: keras.layers.Add()(inputs=[keras.layers.Dense(4)(z), z]),
        lambda z: keras.layers.Dense(2)(keras.layers.ReLU()(inputs=keras.layers.Dense(4)(z))),
    ):
        model = one_input(make)
        np.testing.assert_allclose(numpy(convert(model)[0](NUMBERS)), numpy(model(NUMBERS)), atol=1e-6)
    words = r"copied layer by layer.* Received: the layer scaled.* of type Scaled, which cannot be made.* Give it"
    model = one_input(lambda z: keras.layers.Add()([z, Scaled(np.ones(4))(CCP(4, 2, rank=2)(z))]))
    for function in (lambda: convert(model), lambda: grow(model, 3), lambda: without_products(model, 0)):
        with pytest.raises(ValueError, match=words):
            function()
    with pytest.raises(ValueError, match=r"converted to be trained\. Received: the layer rounds with .*'int8'\. Pass"):
        convert(one_input(lambda z: keras.layers.ReLU()(quantized()(z))))
