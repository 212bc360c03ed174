"""What the analysis says of layers that it has never seen is what they compute."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import (
    coefficients,
    contributions,
    count_products,
    degree,
    encryption_report,
    evaluate,
    first_not_finite,
    first_not_polynomial,
    polynomial_summary,
    truncate,
    without_products,
)
from pinets_tf.layers import Polynomial
from pinets_tf.models import fold_normalization
from tests.analysis.test_summary import profile
from tests.conformance.cases import functional, numpy, randomise, tensorflow_only
from tests.extension.cases import CASES, MORE
from tests.extension.fibonacci import Fibonacci
from tests.polynomial_degree import normalises_in_float64

every_case = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in {**CASES, **MORE}.items()])


def model_of(case):
    """Returns a model of float64 with random weights, gates too, and its degree then."""
    keras.config.set_dtype_policy("float64")
    model = functional(case)
    randomise(model)
    layer = model.layers[-1]
    return model, layer.order if layer.gate else case.degree


@normalises_in_float64
@every_case
def test_terms_are_those_of_the_layer(case):
    model, order = model_of(case)
    # Inputs of models are of float32.
    z = case.batch(2)
    y = numpy(model(z))
    assert degree(model) == degree(case.make()) == order
    assert (first_not_polynomial(model) is None) == (order is not None) == encryption_report(model).ready
    if order is None:
        return
    parts = contributions(model, z)
    scaled = contributions(model, -0.5 * z)
    assert len(parts) == order + 1
    np.testing.assert_allclose(parts.sum(0), y, rtol=0, atol=1e-10 * np.abs(y).max())
    for n, (part, of_scaled) in enumerate(zip(parts, scaled)):
        np.testing.assert_allclose(of_scaled, (-0.5) ** n * part, rtol=0, atol=1e-10 * np.abs(part).max())
    for last in (1, order):
        expected = parts[: last + 1].sum(0)
        np.testing.assert_allclose(truncate(model, last)(z), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    if z[0].size <= 6 and order <= 5:
        np.testing.assert_allclose(evaluate(coefficients(model), z), y, rtol=0, atol=1e-9 * np.abs(y).max())


@every_case
def test_products_are_left_out_and_normalisations_folded(case):
    model = functional(case)
    randomise(model)
    z = case.batch(2)
    y = numpy(model(z))
    steps = model.layers[-1].order - 1
    assert count_products(model) == steps
    np.testing.assert_allclose(without_products(model, steps)(z), y, rtol=0, atol=1e-5 * np.abs(y).max())
    assert case.degree is None or degree(without_products(model, 0)) == 1
    np.testing.assert_allclose(fold_normalization(model)(z), y, rtol=0, atol=1e-5 * np.abs(y).max())


@tensorflow_only
@every_case
def test_costs_are_those_of_the_profiler(case):
    model = functional(case)
    total = polynomial_summary(model).total
    multiply_adds, products = profile(model)
    assert (total.multiply_adds, total.products) == (multiply_adds, products)
    assert total.parameters == model.count_params()


@every_case
def test_levels_hold_the_degree(case):
    report = encryption_report(functional(case))
    assert report.multiplicative_depth == case.make().order - 1
    assert report.composed_levels <= report.composed_levels_between_sums <= report.levels
    assert report.degree is None or 2**report.multiplicative_depth >= report.degree


@every_case
def test_the_order_at_which_numbers_overflow_is_named(case):
    model = functional(case, dtype="mixed_float16", name="layer")
    randomise(model)
    assert first_not_finite(model, case.batch(2) / 100) is None
    if model.layers[-1].normalize != "tanh" and model.layers[-1].order > 1:
        found = first_not_finite(model, case.batch(2) * 1e4)
        assert found.layer.startswith("layer") and (found.order is not None or found.what == "output")


def test_a_gate_that_would_start_at_zero_is_refused():
    assert issubclass(Fibonacci, Polynomial)
    with pytest.raises(ValueError, match=r"gate must multiply the state .*Received: gate=True for Fibonacci. Pass"):
        Fibonacci(3, 3, rank=4, gate=True)
