"""Bad arguments get an error that says the rule, what was received, and the remedy."""

import keras
import numpy as np
import pytest

from pinets_tf.layers import CCP, NCP, Injection, NCPSkip, PolynomialResidual, PooledProduct, ProdPoly


def conv(**options):
    return keras.layers.Conv2D(4, 3, **{"padding": "same", **options})


def apply(layer, *shape):
    return layer(np.zeros(shape, "float32"))


CASES = {
    "order 0": (lambda: CCP(3, 0, rank=4), "`order` must be a positive", "order=0", "Pass order=1"),
    "order 2.5": (lambda: NCP(3, 2.5, rank=4), "`order` must be a positive", "order=2.5", "Pass order=1"),
    "order True": (lambda: NCPSkip(3, True, rank=4), "`order` must be a positive", "order=True", "Pass order=1"),
    "units 0": (lambda: CCP(0, 2, rank=4), "`units` must be a positive", "units=0", "Pass units=None"),
    "rank -1": (lambda: CCP(3, 2, rank=-1), "`rank` must be a positive", "rank=-1", "such as rank=64"),
    "identity factors of another size": (
        lambda: apply(NCP(3, 2, rank=4, identity_factors=True), 2, 5),
        "product is one of z with a state",
        "z of shape (2, 5) and x_1 of shape (2, 4)",
        "or identity_factors=False",
    ),
    "injection of one input": (
        lambda: apply(Injection(), 2, 4, 4, 3),
        "takes a map and a latent vector",
        "(2, 4, 4, 3)",
        "layer([map, latent])",
    ),
    "injection of a map": (
        lambda: Injection()([np.zeros((2, 4, 4, 3), "float32")] * 2),
        "multiplies a map (batch, ..., channels) with a map of a vector",
        "shapes (2, 4, 4, 3) and (2, 4, 4, 3)",
        "Pass [map, latent]",
    ),
    "injection factor no layer": (
        lambda: Injection("dense"),
        "`factor` must be a Keras layer or None",
        "factor='dense' of type str",
        "Pass an unbuilt layer",
    ),
    "injection factor width": (
        lambda: Injection(keras.layers.Dense(2))([np.zeros((2, 4, 3), "float32"), np.zeros((2, 5), "float32")]),
        "one number for each channel of the map, or the shape of the map",
        "turns (2, 5) into (2, 2) for a map of shape (2, 4, 3)",
        "returns 3 features",
    ),
    "pooled factor no layer": (
        lambda: PooledProduct("dense"),
        "`factor` must be a Keras layer",
        "factor='dense' of type str",
        "Pass an unbuilt layer",
    ),
    "pooled factor width": (
        lambda: apply(PooledProduct(keras.layers.Dense(3)), 2, 4, 5),
        "one number for each channel",
        "turns (2, 5) into (2, 3)",
        "returns 5 features",
    ),
    "pooled vector": (
        lambda: apply(PooledProduct(keras.layers.Dense(3)), 2, 3),
        "needs an axis of them",
        "shape (2, 3)",
        "or use CCP for vectors",
    ),
    "pooled format": (
        lambda: PooledProduct(keras.layers.Dense(3), data_format="first"),
        "`data_format` must be",
        "data_format='first'",
        "Pass one of those",
    ),
    "residual factor shape": (
        lambda: apply(PolynomialResidual(conv(), factor=conv(strides=2)), 2, 6, 6, 4),
        "must keep the shape of the shortcut",
        "turns (2, 6, 6, 4) into (2, 3, 3, 4)",
        "such as Conv2D(filters, 1)",
    ),
    "neither": (lambda: NCP(3, 2), "Exactly one of `rank` and `operator`", "rank=None, operator=None", "Pass rank=64"),
    "both": (lambda: NCP(3, 2, 4, conv()), "Exactly one of `rank` and `operator`", "rank=4, operator=<Conv2D", "Pass"),
    "operator no layer": (
        lambda: NCP(3, 2, operator="conv"),
        "`operator` must be a Keras layer",
        "operator='conv' of type str",
        "Pass an unbuilt layer",
    ),
    "normalize": (
        lambda: CCP(3, 2, rank=4, normalize="btch"),
        "`normalize` must be",
        "normalize='btch'",
        "Pass one of",
    ),
    "normalize_at": (
        lambda: CCP(3, 2, rank=4, normalize_at="first"),
        "`normalize_at` must be one of 'product', 'order', 'last'",
        "normalize_at='first'",
        "Pass one of",
    ),
    "vector instance": (
        lambda: apply(CCP(3, 2, rank=4, normalize="instance"), 2, 5),
        "over the axes between batch and channels",
        "states of shape (2, 4)",
        "Pass normalize='layer'",
    ),
    "normalisation changes the shape": (
        lambda: apply(CCP(3, 2, rank=4, normalize=keras.layers.Dense(5)), 2, 5),
        "must keep the shape",
        "turns (2, 4) into (2, 5)",
        "Pass a layer that keeps",
    ),
    "operator changes the size": (
        lambda: apply(NCP(3, 2, operator=conv(strides=2)), 2, 8, 8, 3),
        "must return the shape that it is given",
        "(2, 4, 4, 4) into (2, 2, 2, 4)",
        "strides=1",
    ),
    "operator changes an unknown size": (
        lambda: NCPSkip(3, 2, operator=conv(padding="valid"))(keras.Input((None, None, 3))),
        "must return the shape that it is given",
        "(None, None, None, 4) into (None, 30, 30, 4)",
        "padding='same'",
    ),
    "input without features": (
        lambda: apply(CCP(3, 2, rank=4), 2),
        "take inputs of at least 2 axes",
        "shape (2,)",
        "Reshape the input",
    ),
    "image expected": (
        lambda: apply(NCP(3, 2, operator=conv()), 2, 8),
        "take inputs of at least 4 axes",
        "shape (2, 8)",
        "Reshape the input",
    ),
    "unknown number of features": (
        lambda: NCP(3, 2, rank=4)(keras.Input((None,))),
        "as many rows as the input has features",
        "shape (None, None), whose last size is unknown",
        "Give it, such as keras.Input((784,))",
    ),
    "no polynomials": (
        lambda: ProdPoly([]),
        "a list of one or more Keras layers",
        "polynomials=[]",
        "Pass for example",
    ),
    "the same layer twice": (
        lambda: ProdPoly([CCP(3, 2, rank=4, name="c")] * 2),
        "no layer twice",
        "<CCP name=c",
        "Pass for example",
    ),
    "branch no layer": (
        lambda: PolynomialResidual(None),
        "`branch` must be a Keras layer",
        "branch=None of type NoneType",
        "Pass a layer",
    ),
    "shortcut no layer": (
        lambda: PolynomialResidual(conv(), 2, shortcut="projection"),
        "`shortcut` must be a Keras layer",
        "shortcut='projection' of type str",
        "Pass a layer",
    ),
    "residual order": (
        lambda: PolynomialResidual(conv(), 0),
        "`order` must be a positive integer",
        "order=0",
        "Pass order=1",
    ),
    "residual factor no layer": (
        lambda: PolynomialResidual(conv(), 2, factor="dense"),
        "`factor` must be a Keras layer",
        "factor='dense' of type str",
        "Pass a layer",
    ),
    "pooled order": (
        lambda: PooledProduct(keras.layers.Dense(3), 0),
        "`order` must be a positive integer",
        "order=0",
        "Pass order=1",
    ),
    "shapes differ": (
        lambda: apply(PolynomialResidual(conv(strides=2)), 2, 8, 8, 4),
        "must return the same shape",
        "(2, 4, 4, 4) from the branch and (2, 8, 8, 4) from the shortcut None",
        "Conv2D(filters, 1, strides=strides)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_error_says_rule_received_remedy(case):
    function, *parts = CASES[case]
    with pytest.raises(ValueError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("polynomial", [CCP, NCP, NCPSkip])
@pytest.mark.parametrize(
    "options, words",
    [
        ({"order": 0}, r"`order` must be a positive integer\. Received: order=0\. Pass order=1"),
        ({"units": 0}, r"`units` must be a positive integer\. Received: units=0\. Pass units=None"),
        ({"rank": 0}, r"`rank` must be a positive integer\. Received: rank=0\. Pass the number of columns"),
        ({"rank": None}, r"Exactly one of `rank` and `operator` .* Received: rank=None, operator=None\. Pass rank=64"),
        ({}, r"take inputs of at least 2 axes.* Received: an input of shape \(2,\)\. Reshape the input"),
    ],
    ids=str,
)
def test_every_polynomial(polynomial, options, words):
    with pytest.raises(ValueError, match=words):
        apply(polynomial(**{"units": 3, "order": 2, "rank": 4, **options}), 2)
