"""Layers that start from given polynomials."""

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf import analysis
from pinets_tf.analysis import Coefficients, coefficients, fit_polynomial
from pinets_tf.analysis.fit_polynomial import _Tape
from pinets_tf.layers import CCP, NCP, NCPSkip, Polynomial
from tests.conformance.cases import numpy
from tests.extension.chebyshev import Chebyshev
from tests.extension.fibonacci import Fibonacci


def polynomial(order=3, layer_class=NCP):
    layer = layer_class(2, order, rank=3, dtype="float64")
    layer.build((None, 4))
    return layer


@pytest.mark.parametrize("layer_class", [CCP, NCP, NCPSkip])
@pytest.mark.parametrize("order, rank, symmetric", [(1, 4, True), (2, 8, False), (3, 12, True)])
def test_finds_the_polynomial_of_another_layer(layer_class, order, rank, symmetric):
    given = polynomial(order)
    layer = layer_class(2, order, rank=rank, gate=True, dtype="float64")
    error = fit_polynomial(layer, coefficients(given, symmetric=symmetric), starts=2)
    z = np.random.default_rng(5).normal(size=(50, 4))
    difference = numpy(layer(z)) - numpy(given(z))
    assert error < 1e-3
    assert np.sqrt(np.mean(difference**2)) < 1e-2 * np.std(numpy(given(z)))


def test_low_rank_is_an_approximation_from_data():
    z = np.random.default_rng(1).normal(size=(150, 4))
    x = numpy(polynomial()(z))
    small, large = CCP(2, 3, rank=2, dtype="float64"), CCP(2, 3, rank=6, dtype="float64", use_bias=False)
    errors = [fit_polynomial(layer, (z, x), starts=2) for layer in (small, large)]
    assert 1e-3 < errors[0] < 0.9 and errors[1] < errors[0]
    found = np.sqrt(np.mean((numpy(large(z)) - x) ** 2) / np.mean((x - x.mean(0)) ** 2))
    np.testing.assert_allclose(errors[1], found, rtol=1e-6)


@pytest.mark.parametrize("layer_class", [CCP, NCP, NCPSkip])
def test_starts_from_the_weights_of_the_layer(layer_class):
    keras.utils.set_random_seed(1)
    layer = layer_class(2, 2, rank=3)
    layer.build((None, 4))
    kernels = [numpy(factor.kernel) for factor in layer.factors]
    assert fit_polynomial(layer, coefficients(layer), starts=1) < 1e-5
    for kernel, factor in zip(kernels, layer.factors):
        np.testing.assert_allclose(numpy(factor.kernel), kernel, atol=1e-3)


class Turned(Polynomial):
    """x_1 = number * start * (turn x), x_n = (A_n z + 1/2) * x_{n-1}: weights of a user's on the way."""

    def build_maps(self, shape):
        self.turn = keras.layers.Dense(shape[-1], dtype=self.dtype_policy)
        self.turn.build(shape)
        self.start = self.add_weight(shape=shape[1:], initializer="ones", name="start")
        self.number = self.add_weight(shape=(), initializer="ones", name="number")

    def recursion(self, on, z):
        x = on.scale(self.start, on.apply(self.turn, on.apply(self.factors[0], z)))
        x = on.scale(self.number, x)
        for step, A_n in zip(self.steps, self.factors[1:]):
            x = on.step(step, on.shift(on.apply(A_n, z), 0.5), x, carry=x)
        return self.read_out(on, x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Chebyshev(2, 3, rank=12, gate=True, dtype="float64"),
        lambda: Turned(2, 3, operator=keras.layers.Dense(12), gate=True, dtype="float64"),
        lambda: NCPSkip(2, 3, rank=10, learn_skip=True, gate=True, dtype="float64"),
    ],
    ids=["Chebyshev", "Turned", "learned skip"],
)
def test_fits_whatever_recursion_is_made_of_matrices_and_vectors(make):
    layer = make()
    # Chebyshev's polynomials are odd or even.
    given = polynomial(layer_class=Chebyshev if isinstance(layer, Chebyshev) else NCP)
    assert fit_polynomial(layer, coefficients(given), starts=2) < 1e-3
    z = np.random.default_rng(5).normal(size=(50, 4))
    assert np.sqrt(np.mean((numpy(layer(z)) - numpy(given(z))) ** 2)) < 1e-2 * np.std(numpy(given(z)))


FITTED = {
    "CCP": lambda: CCP(2, 3, rank=3, dtype="float64"),
    "NCP": lambda: NCP(2, 3, rank=3, dtype="float64"),
    "NCPSkip": lambda: NCPSkip(2, 3, rank=3, learn_skip=True, dtype="float64"),
    "Chebyshev": lambda: Chebyshev(2, 4, rank=3, dtype="float64"),
    "Turned": lambda: Turned(2, 3, rank=3, dtype="float64"),
    "Fibonacci": lambda: Fibonacci(2, 4, rank=3, dtype="float64"),
    "products": lambda: without_last_products(CCP(2, 4, rank=3, dtype="float64")),
}


def without_last_products(layer):
    layer.products = 1
    return layer


@pytest.mark.parametrize("name", FITTED)
def test_derivatives_are_those_of_the_layer(name):
    layer, z = FITTED[name](), np.random.default_rng(0).normal(size=(5, 4))
    layer(z)
    tape = _Tape(layer, 4)
    weights, C = tape.random(np.random.default_rng(1)), numpy(layer.C.kernel)
    for variable, value in zip(tape.variables, tape.split(weights)):
        variable.assign(value.reshape(variable.shape))
    np.testing.assert_allclose(tape.computed(z, weights) @ C, numpy(layer(z)) - numpy(layer.C.bias), atol=1e-12)
    derivatives = tape.derivatives(C)
    for place, derivative in enumerate(derivatives.T):
        move = 1e-6 * np.eye(1, weights.size, place)[0]
        found = (tape.computed(z, weights + move) - tape.computed(z, weights - move)) @ C / 2e-6
        np.testing.assert_allclose(derivative, found.ravel(), atol=1e-7)


class Doing(Polynomial):
    """Says one word of a recursion, or does something with the output."""

    def __init__(self, word=None, what=None, values=1):
        super().__init__(2, 2, rank=3)
        self.said = (word, what, values)

    def recursion(self, on, z):
        x, (word, what, values) = on.apply(self.factors[0], z), self.said
        if word is None:
            return on.add(self.read_out(on, x))
        return self.read_out(on, getattr(on, word)(what, *[x] * values))


bent = keras.layers.Dense(4, activation="tanh")


def quantised():
    model = keras.Sequential([keras.Input((4,)), CCP(2, 2, rank=4)])
    model.quantize("int8")
    return model.layers[0]


Z, X = np.zeros((5, 4)), np.zeros((5, 2))
HUGE = Coefficients(np.zeros(2), (np.zeros((2, 400)),))
REFUSED = {
    "kind": (
        lambda: keras.layers.Dense(2),
        (Z, X),
        r"C x_N \+ beta, .* Received: .*, which is of type Dense and has no C\. Pass",
    ),
    "normalised": (
        lambda: CCP(2, 2, rank=4, normalize="batch"),
        (Z, X),
        r"applies normalize_2 of type Product.* Pass a",
    ),
    "offset": (lambda: CCP(2, 2, rank=4, normalize="offset"), (Z, X), r"applies normalize_2 of type ProductOffset, wh"),
    "identity": (
        lambda: CCP(2, 2, rank=4, identity_factors=True),
        (Z, X),
        r"which applies U_2 of type Identity, which",
    ),
    "activation": (
        lambda: NCP(2, 2, operator=bent),
        (Z, X),
        r"which applies A_1 of type Dense, which is no plain matr",
    ),
    "quantised": (quantised, (Z, X), r"which applies U_1 of type Dense, which is no plain matrix\. Pass a layer"),
    "no units": (lambda: CCP(None, 2, rank=4), (Z, X), r"which is of type CCP and has no C\. Pass a layer"),
    "affine map": (
        lambda: Doing("affine", lambda x: -x),
        (Z, X),
        r"Doing .* which has an affine map that is no matrix",
    ),
    "product": (lambda: Doing("product", ops.dot, 2), (Z, X), r"which has a product that is not elementwise\. Pass"),
    "vector": (lambda: Doing("scale", np.ones(3)), (Z, X), r"which computes a vector from its weights\. Pass"),
    "behind C": (lambda: Doing(), (Z, X), r"which returns something else than C x_N \+ beta\. Pass"),
    "one array": (lambda: CCP(2, 2, rank=4), Z, r"by two arrays of finite.* Received: ndarray, .*\. Pass what"),
    "samples": (lambda: CCP(2, 2, rank=4), (Z, X[1:]), r"arrays float64 \(5, 4\), float64 \(4, 2\)\. Pass"),
    "sizes": (lambda: CCP(3, 2, rank=4), (Z, X), r"from 4 to 2 numbers for ccp.*, from 4 to 3\. Pass .* units=2"),
    "size": (lambda: CCP(2, 2, rank=4), HUGE, r"at most 67,108,864 derivatives.* Received: .* train the layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_says_what_cannot_be_fitted(case):
    make, given, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        fit_polynomial(make(), given)


def test_counts_its_starts():
    with pytest.raises(ValueError, match=r"`starts` must be a positive integer\. Received: starts=0\. Pass how many"):
        fit_polynomial(CCP(2, 2, rank=4), (Z, X), starts=0)


@pytest.mark.parametrize("old, new", [("fit", "fit_polynomial"), ("encrypted_ready", "encryption_report")])
def test_old_names_warn_and_are_the_new_functions(old, new):
    with pytest.warns(DeprecationWarning, match=f"`{old}` is called `{new}`. Use that"):
        assert getattr(analysis, old) is getattr(analysis, new)
    assert old not in analysis.__all__ and not hasattr(analysis, "no_such_name")
