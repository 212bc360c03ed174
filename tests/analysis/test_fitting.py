"""Layers that start from given polynomials."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import Coefficients, coefficients, fit
from pinets_tf.layers import CCP, NCP, NCPSkip
from tests.conformance.cases import numpy


def polynomial(order=3, **options):
    layer = NCP(2, order, rank=3, dtype="float64", **options)
    layer.build((None, 4))
    return layer


@pytest.mark.parametrize("layer_class", [CCP, NCP, NCPSkip])
@pytest.mark.parametrize("order, rank, symmetric", [(1, 4, True), (2, 8, False), (3, 12, True)])
def test_finds_the_polynomial_of_another_layer(layer_class, order, rank, symmetric):
    given = polynomial(order)
    layer = layer_class(2, order, rank=rank, gate=True, dtype="float64")
    error = fit(layer, coefficients(given, symmetric=symmetric), starts=2)
    z = np.random.default_rng(5).normal(size=(50, 4))
    difference = numpy(layer(z)) - numpy(given(z))
    assert error < 1e-3
    assert np.sqrt(np.mean(difference**2)) < 1e-2 * np.std(numpy(given(z)))


def test_low_rank_is_an_approximation_from_data():
    z = np.random.default_rng(1).normal(size=(150, 4))
    x = numpy(polynomial()(z))
    small, large = CCP(2, 3, rank=2, dtype="float64"), CCP(2, 3, rank=6, dtype="float64", use_bias=False)
    errors = [fit(layer, (z, x), starts=2) for layer in (small, large)]
    assert 1e-3 < errors[0] < 0.9 and errors[1] < errors[0]
    found = np.sqrt(np.mean((numpy(large(z)) - x) ** 2) / np.mean((x - x.mean(0)) ** 2))
    np.testing.assert_allclose(errors[1], found, rtol=1e-6)


@pytest.mark.parametrize("layer_class", [CCP, NCP, NCPSkip])
def test_starts_from_the_weights_of_the_layer(layer_class):
    keras.utils.set_random_seed(1)
    layer = layer_class(2, 2, rank=3)
    layer.build((None, 4))
    kernels = [numpy(factor.kernel) for factor in layer.factors]
    assert fit(layer, coefficients(layer), starts=1) < 1e-5
    for kernel, factor in zip(kernels, layer.factors):
        np.testing.assert_allclose(numpy(factor.kernel), kernel, atol=1e-3)


Z, X = np.zeros((5, 4)), np.zeros((5, 2))
HUGE = Coefficients(np.zeros(2), (np.zeros((2, 400)),))
REFUSED = {
    "kind": (lambda: keras.layers.Dense(2), (Z, X), r"a CCP, NCP or .* Received: .*, which is of type Dense\. Pass"),
    "skip": (lambda: NCPSkip(2, 2, rank=4, learn_skip=True), (Z, X), r"which has learn_skip\. Pass a layer"),
    "normalised": (lambda: CCP(2, 2, rank=4, normalize="batch"), (Z, X), r"which has normalize\. Pass a layer"),
    "no units": (lambda: CCP(None, 2, rank=4, identity_factors=True), (Z, X), r"has identity_factors, units=None"),
    "one array": (lambda: CCP(2, 2, rank=4), Z, r"by two arrays of finite.* Received: ndarray, .*\. Pass what"),
    "samples": (lambda: CCP(2, 2, rank=4), (Z, X[1:]), r"arrays float64 \(5, 4\), float64 \(4, 2\)\. Pass"),
    "sizes": (lambda: CCP(3, 2, rank=4), (Z, X), r"from 4 to 2 numbers for ccp.*, from 4 to 3\. Pass .* units=2"),
    "size": (lambda: CCP(2, 2, rank=4), HUGE, r"at most 67,108,864 derivatives.* Received: .* train the layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_says_what_cannot_be_fitted(case):
    make, given, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        fit(make(), given)


def test_counts_its_starts():
    with pytest.raises(ValueError, match=r"`starts` must be a positive integer\. Received: starts=0\. Pass how many"):
        fit(CCP(2, 2, rank=4), (Z, X), starts=0)
