"""What copies weights, with weights that are not as a new layer has them: adapted, quantised, tied or frozen.

Each function gives a model of the same answers, or says in words why it cannot.
"""

import functools
import warnings

import keras
import numpy as np
import pytest

from pinets_tf.analysis import (
    coefficients,
    contributions,
    convert,
    count_products,
    evaluate,
    fit_polynomial,
    grow,
    register_layer,
    truncate,
    without_products,
)
from pinets_tf.export import export_saved_model, in_float32
from pinets_tf.layers import CCP, NCP, NCPSkip, PolynomialResidual, ProdPoly, SpectralNormalization
from pinets_tf.layers.copying import copy_weights
from pinets_tf.models import fold_normalization
from pinets_tf.models.stylegan import carry_weights
from pinets_tf.training.gan_average import copy_network, update_average
from tests.conformance.cases import numpy, randomise, tensorflow_only


@keras.saving.register_keras_serializable(package="tests")
class Unnamed(keras.layers.Layer):
    """A linear layer whose weight and whose layer inside get names of a counter, which differ in a copy."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))
        self.map = keras.layers.Dense(shape[-1])
        self.map.build(shape)
        self.built = True

    def call(self, x):
        return self.map(x * self.scale)


register_layer(Unnamed, "linear")


def network():
    """Returns a model of layers that hold linear maps, of degree 8, with a sum that `convert` makes polynomial."""
    z = keras.Input((3,))
    x = CCP(4, 2, rank=5, normalize="batch", name="ccp")(keras.layers.Dense(3)(z))
    x = PolynomialResidual(keras.layers.Dense(4), 2, normalize="batch", name="residual")(x)
    x = ProdPoly([NCPSkip(3, 2, operator=keras.layers.Dense(4), learn_skip=True)], name="prod")(x)
    model = keras.Model(z, keras.layers.Add()([x, keras.layers.Dense(3)(x)]))
    randomise(model)
    return model


def dense_layers(model):
    return [layer for layer in model._flatten_layers() if type(layer) is keras.layers.Dense]


def adapted(model):
    """Returns a model whose dense layers have LoRA adapters that are not zero, and of an alpha of their own."""
    for number, layer in enumerate(dense_layers(model)):
        layer.enable_lora(2, lora_alpha=3)
        layer.lora_kernel_b.assign(np.random.default_rng(number).normal(size=layer.lora_kernel_b.shape) / 3)
    return model


def quantised(mode):
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the layers that have nothing to quantise.
        model.quantize(mode)
    return model


def tied():
    """A layer in two places of one of ours, in one of ours and in the model, and in two places of the model."""
    z = keras.Input((3,))
    shared, twice, polynomial = keras.layers.Dense(3), keras.layers.Dense(3), CCP(3, 2, rank=4, normalize="batch")
    x = PolynomialResidual(shared, 2, shared, normalize="batch", name="residual")(z)
    x = ProdPoly([polynomial], name="prod")(polynomial(twice(keras.layers.Add()([shared(x), x]))))
    model = keras.Model(z, twice(x))
    randomise(model)
    return model


def frozen():
    model = network()
    model.trainable = False
    return model


def partly_frozen():
    """Layers and weights inside of others frozen, one before it was built."""
    z = keras.Input((3,))
    x = CCP(3, 3, rank=4, normalize="batch", name="ccp")(z)
    x = NCP(3, 2, rank=4, trainable=False, name="ncp")(x)
    x = keras.layers.Add()([x, Unnamed()(x)])
    model = keras.Model(z, x)
    ccp, ncp = model.get_layer("ccp"), model.get_layer("ncp")
    ccp.factors[0].trainable = False
    ccp.normalizers[0].gamma.trainable = False
    ccp.C.kernel.trainable = False
    ncp.S[0].trainable = True
    randomise(model)
    return model


# Each with the word for why a function may refuse it.
STATES = {
    "lora": (lambda: adapted(network()), None),
    "int8": (lambda: quantised("int8"), "quanti"),
    "int4": (lambda: quantised("int4"), "quanti"),
    "float8": (lambda: quantised("float8"), "quanti"),
    "int8-lora": (lambda: adapted(quantised("int8")), "quanti"),
    "tied": (tied, None),
    "frozen": (frozen, None),
    "partly-frozen": (partly_frozen, None),
}
# What is quantised in another way takes the same way as int8.
_IN_THE_LONG_RUN = ("int4", "float8")


@functools.cache
def made(state):
    """Returns a model of a state, made once, since no function changes it."""
    return STATES[state][0]()


def averaged(model):
    average = copy_network(model)
    update_average(average, model, 0.5)
    return average


def carried(model):
    """Returns a copy whose weights are carried over by the names of its layers."""
    copy = keras.models.clone_model(model)
    randomise(copy)
    carry_weights(model, copy)
    return copy


FUNCTIONS = {
    "fold_normalization": fold_normalization,
    "coefficients": lambda model: lambda z: evaluate(coefficients(model), z),
    "contributions": lambda model: lambda z: contributions(model, z).sum(0),
    "truncate": lambda model: truncate(model, 1000),
    "grow": lambda model: grow(model, 4),
    "without_products": lambda model: without_products(model, count_products(model)),
    "convert": lambda model: convert(model)[0],
    "average": averaged,
    "carry_weights": carried,
}


Z = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


def assert_same(model, other, tolerance=1e-5):
    expected = numpy(model(Z)).astype("float64")
    np.testing.assert_allclose(numpy(other(Z)), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "state", [pytest.param(x, marks=[pytest.mark.long] if x in _IN_THE_LONG_RUN else []) for x in STATES]
)
def test_the_same_answers_or_words(state, name):
    model, cause = made(state), STATES[state][1]
    before = model.get_weights()
    try:
        other = FUNCTIONS[name](model)
        assert_same(model, other)
    except ValueError as error:
        if cause is None or cause not in str(error):
            raise
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


@pytest.mark.parametrize("state", ["lora", "tied", "partly-frozen"])
def test_in_float32(state):
    keras.config.set_dtype_policy("mixed_float16")
    model = STATES[state][0]()
    with pytest.warns(UserWarning, match="exported in float32"):
        assert_same(model, in_float32(model), tolerance=1e-2)


@tensorflow_only
def test_a_model_with_adapters_is_exported(tmp_path):
    # Which compares what is served with the model.
    z = keras.Input((3,))
    model = keras.Model(z, CCP(3, 2, rank=4, normalize="batch")(z))
    randomise(model)
    export_saved_model(adapted(model), tmp_path, "adapted")


def test_adapters_on_quantised_layers_are_merged_by_saving(tmp_path):
    model = adapted(quantised("int8"))
    for copy in (fold_normalization, copy_network, lambda model: without_products(model, 0)):
        with pytest.raises(ValueError, match=r"not quantised. Received: the layer .* with LoRA .* Save the model and"):
            copy(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, fold_normalization(loaded))
    assert_same(model, loaded, tolerance=0.1)


def test_adapters_in_a_wrapper_are_refused():
    z = keras.Input((3,))
    wrapper = SpectralNormalization(keras.layers.Dense(4))
    model = keras.Model(z, CCP(3, 2, rank=4)(wrapper(z)))
    wrapper.layer.enable_lora(2)
    for copy in (fold_normalization, coefficients, lambda model: grow(model, 3), copy_network):
        with pytest.raises(ValueError, match="LoRA"):
            copy(model)


def test_a_layer_with_adapters_is_not_fitted():
    layer = CCP(3, 2, rank=4)
    layer.build((None, 3))
    layer.factors[1].enable_lora(2)
    with pytest.raises(ValueError, match=r"Received: <CCP .* which has LoRA adapters. Pass a layer such as"):
        fit_polynomial(layer, (Z, Z))


def test_other_structures_are_refused():
    one, other = CCP(3, 2, rank=4), CCP(3, 3, rank=4)
    one.build((None, 3))
    other.build((None, 3))
    before = numpy(other.C.kernel)
    with pytest.raises(ValueError, match=r"hold the same layers. Received: ccp.* with U_1, U_2, C, and .* Give the"):
        copy_weights(other, one)
    np.testing.assert_array_equal(numpy(other.C.kernel), before)
    average = copy_network(made("frozen"))
    with pytest.raises(ValueError, match=r"have the same ones. Received: the layer .* with kernel \(3, 3\), .* Give"):
        update_average(average, made("tied"), 0.5)
