"""Every function of the analysis, over every public layer, at each place of a model and under each dtype policy.

What they compute is compared with what the model itself returns.
"""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import (
    NotPolynomial,
    coefficients,
    contributions,
    convert,
    count_products,
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
from pinets_tf.layers import CCP, Injection, PolynomialResidual
from pinets_tf.layers.polynomial.horner import HornerLayer
from pinets_tf.models import fold_normalization
from tests.conformance.cases import CASES, FIRST, Case, numpy, randomise
from tests.polynomial_degree import normalises_in_float64

PLACES = ("first", "middle", "last")
# A few times the rounding of each type; relative to the largest output.
TOLERANCES = {"float32": 1e-5, "float64": 1e-10, "mixed_float16": 1e-2, "mixed_bfloat16": 8e-2}
# Whole tensors are computed up to so many inputs to the power of the order.
MOST_ENTRIES = 2000


def model_of(case, place):
    """Returns a model of the layer of a case, with linear layers and a sum of two ways before or after it."""
    inputs = case.each(keras.Input)
    z = inputs
    if place != "first":
        linear = [keras.layers.Dense(x.shape[-1])(x) for x in keras.tree.flatten(inputs)]
        z = linear if isinstance(case.shape, list) else linear[0]
    if place == "last":
        z = keras.tree.map_structure(with_sum, z)
    layer = case.make(name="layer")
    x = layer(z)
    if not getattr(layer, "gate", False):
        tame(layer)
    if place != "last":
        x = with_sum(keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    return keras.Model(inputs, x), layer


def with_sum(x):
    """Returns the sum of a shortcut and a branch, which `convert` makes polynomial."""
    return keras.layers.Add()([x, keras.layers.Dense(x.shape[-1])(x)])


def tame(layer):
    """Gives every weight a random value that keeps products of half precision in bounds."""
    randomise(layer)
    for weight in layer.weights:
        if "float" in weight.dtype and "variance" not in weight.path:
            weight.assign(weight * 0.5)


# Small enough for coefficients, and adding their inputs, as they are in a model, to what they compute.
ADDING_INPUTS = {
    "PolynomialResidual-identity": Case(
        PolynomialResidual, lambda **options: PolynomialResidual(keras.layers.Dense(4), 2, **options), (4,), 2
    ),
    "Injection-skip": Case(
        Injection, lambda **options: Injection(skip=True, offset=True, **options), [(2, 2, 3), (4,)], 2
    ),
}


def variants():
    for name, case in {**CASES, **ADDING_INPUTS}.items():
        in_every_run = name in ADDING_INPUTS or FIRST[case.cls][0] == name
        for place in PLACES:
            for policy in TOLERANCES:
                first = in_every_run and (policy == "float32" or place == "first")
                marks = [] if first else [pytest.mark.long]
                yield pytest.param(case, place, policy, id=f"{name}-{place}-{policy}", marks=marks)


@normalises_in_float64
@pytest.mark.parametrize(("case", "place", "policy"), variants())
def test_every_function(case, place, policy):
    keras.config.set_dtype_policy(policy)
    model, layer = model_of(case, place)
    z = case.batch(2)
    expected = numpy(model(z)).astype("float64")
    tolerance = TOLERANCES[policy] * np.abs(expected).max()

    def assert_same(found):
        found = numpy(found).astype("float64").reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)

    order, culprit = degree(model), first_not_polynomial(model)
    assert getattr(layer, "gate", False) or order == case.degree
    assert (order is None) == (culprit is not None) == (not encryption_report(model).ready)
    assert polynomial_summary(model).total.degree == order
    assert first_not_finite(model, z) is None
    if order is None:
        for function, *arguments in ((contributions, z), (truncate, 1), (coefficients,)):
            with pytest.raises(NotPolynomial, match=f"Received: the layer ({culprit.replace('/', '|')}) "):
                function(model, *arguments)
    else:
        parts = contributions(model, z)
        assert len(parts) == order + 1
        assert_same(parts.astype("float64").sum(0))
        assert_same(truncate(model, order)(z))
        alone, y = contributions(layer, z), numpy(layer(z)).astype("float64")
        np.testing.assert_allclose(alone.astype("float64").sum(0), y, rtol=0, atol=TOLERANCES[policy] * np.abs(y).max())
        size = sum(np.prod(shape) for shape in ([case.shape] if isinstance(case.shape, tuple) else case.shape))
        if size**order <= MOST_ENTRIES:
            assert_same(evaluate(coefficients(model), z))

    products = count_products(model)
    assert_same(without_products(model, products)(z))
    if products:
        none = without_products(model, 0)
        for part in model._flatten_layers():
            if isinstance(part, HornerLayer):
                part.products = 0
        np.testing.assert_allclose(numpy(none(z)), numpy(model(z)), rtol=0, atol=tolerance)
        for part in model._flatten_layers():
            if isinstance(part, HornerLayer):
                part.products = None
        try:
            grown = grow(model, layer.order + 1)
        except ValueError as error:
            assert str(error).startswith(("A layer grows where", "A model grows by its polynomial layers"))
        else:
            assert_same(grown(z))
    assert_same(convert(model)[0](z))


def masked():
    """Returns a model of a polynomial behind a layer that makes a mask, and inputs with padding."""
    z = keras.Input((None, 3))
    x = CCP(3, 2, rank=5, normalize="batch", name="ccp")(keras.layers.Masking(name="masking")(z))
    model = keras.Model(z, keras.layers.GlobalAveragePooling1D(name="pool")(with_sum(x)))
    padded = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    padded[::2, 2:] = 0
    randomise(model.get_layer("ccp"))
    return model, padded


def test_copies_behind_a_mask_compute_the_same():
    model, z = masked()
    without_padding = model(z[:, :2])
    np.testing.assert_allclose(numpy(model(z))[::2], numpy(without_padding)[::2], rtol=1e-5, atol=1e-5)
    for copy in (without_products(model, 1), grow(model, 3), convert(model)[0], fold_normalization(model)):
        np.testing.assert_allclose(numpy(copy(z)), numpy(model(z)), rtol=1e-5, atol=1e-5)


class ZeroedMasking(keras.layers.Masking):
    """A masking that its author says is linear, which it is at places without padding."""


@pytest.mark.parametrize("linear", [False, True])
def test_a_layer_with_a_mask_is_named(linear):
    register_layer(ZeroedMasking, "linear")
    z = keras.Input((4, 3))
    masking = ZeroedMasking(name="masking") if linear else keras.layers.Masking(name="masking")
    pooled = keras.layers.GlobalAveragePooling1D(name="pool")(masking(z))
    model = keras.Model(z, CCP(3, 2, rank=5)(pooled))
    name = "pool" if linear else "masking"
    assert first_not_polynomial(model) == name and degree(model) is None
    assert polynomial_summary(model).total.degree is None
    assert encryption_report(model).obstacles[0].layer == name
    for function, *arguments in ((contributions, np.ones((2, 4, 3))), (truncate, 1), (coefficients,)):
        with pytest.raises(NotPolynomial, match=f"Received: the layer {name} "):
            function(model, *arguments)


def test_a_polynomial_that_gets_a_mask_is_computed_or_named():
    register_layer(ZeroedMasking, "linear")
    inputs, z = keras.Input((4, 3)), np.ones((2, 4, 3), "float32")
    model = keras.Model(inputs, CCP(3, 2, rank=5, normalize="batch", name="ccp")(ZeroedMasking()(inputs)))
    try:
        parts = contributions(model, z)
    except NotPolynomial as error:
        assert "Received: the layer ccp of type CCP, called with a mask. Call it without." in str(error)
    else:
        np.testing.assert_allclose(parts.sum(0), numpy(model(z)), rtol=1e-5, atol=1e-6)
