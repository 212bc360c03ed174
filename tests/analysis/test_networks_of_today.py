"""What `analysis` sees in multiplicative networks that others wrote in plain Keras, without a layer of this package."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf.analysis import (
    contributions,
    count_products,
    degree,
    encryption_report,
    first_not_polynomial,
    polynomial_summary,
    register_layer,
)
from pinets_tf.layers import NCP
from tests.analysis import networks_of_today, parts_twin
from tests.analysis.test_contributions import float64
from tests.analysis.test_summary import profile
from tests.conformance.cases import numpy, randomise, tensorflow_only

# Of each order, relative to its own largest number; 6e-12 where most numbers cancel.
AS_THE_TWIN = 1e-10
# What is left of the third order when a polynomial of degree 23 is fitted through values along a line.
AS_INTERPOLATED = 1e-7


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of `networks_of_today`: small, in a variant for the twin and a deeper one, and as published.

    Args:
        name: that of the function.
        small: its arguments for the twin.
        degree: that of the small one.
        products: how many products the small one has.
        levels: how many of them lie on one way.
        obstacles: how many of its layers as published are no polynomials.
        deep: its arguments for a deeper one, each of whose products doubles the degree unless `deep_degree` is given.
        deep_levels: how many products lie on one way through it.
        radius: how large its inputs may be for the orders above 23 to vanish.
    """

    name: str
    small: dict
    degree: int
    products: int
    levels: int
    obstacles: int
    deep: dict
    deep_levels: int
    radius: float
    deep_degree: int | None = None

    @property
    def make(self) -> Callable:
        return getattr(networks_of_today, self.name)

    def in_float64(self, options):
        """Returns a model in the polynomial form with random weights and statistics, and inputs."""
        with float64():
            model = self.make(**options, polynomial=True)
        randomise(model)
        return model, np.random.default_rng(0).normal(size=(2, *model.input_shape[1:]))


STAR_NET = {"size": 16, "stem": 4, "width": 4, "expansion": 2, "classes": 3}
NETWORKS = [
    Network(
        "star_net",
        small={**STAR_NET, "depths": (1, 1)},
        degree=4,
        products=2,
        levels=2,
        obstacles=3,
        deep={**STAR_NET, "depths": (1, 2, 1)},
        deep_levels=4,
        radius=1,
    ),
    Network(
        "mo_net",
        small={"size": 16, "widths": (32, 64), "depths": (1, 1), "classes": 3},
        degree=16,
        products=4,
        levels=4,
        obstacles=2 * 5,
        deep={"size": 8, "widths": (32, 32), "depths": (2, 1), "classes": 3},
        deep_levels=6,
        radius=1e-3,
    ),
    Network(
        "naf_net",
        small={"size": 6, "width": 4, "encoder": (1,), "middle": 0, "decoder": (0,)},
        degree=8,
        products=3,
        levels=3,
        obstacles=2,
        deep={"size": 4, "width": 4, "encoder": (1,), "middle": 1, "decoder": (1,)},
        deep_levels=9,
        radius=0.1,
    ),
    Network(
        "bilinear_mlp",
        small={"pixels": 6, "width": 5, "blocks": 2, "classes": 3},
        degree=4,
        products=2,
        levels=2,
        obstacles=0,
        deep={"pixels": 6, "width": 5, "blocks": 5, "classes": 3},
        deep_levels=5,
        radius=1,
    ),
    # A cube is two products one after another, and a fourth power is three of which two lie on one way.
    Network(
        "poly_kerv_net",
        small={"size": 4, "filters": 3, "classes": 2},
        degree=2 * 3 * 4,
        products=1 + 2 + 3,
        levels=1 + 2 + 2,
        obstacles=2,
        deep={"size": 8, "filters": 2, "classes": 3},
        deep_levels=5,
        deep_degree=24,
        radius=0.1,
    ),
]
# Millions of parameters, millions of multiplications, products and the degree without activations, as published or, for
# the last two, by the formulas. The authors of StarNet count the products and batch normalisations too.
PUBLISHED = {
    "star_net": (2.9, 425, 15, 2**15),
    "mo_net": (10, 2_800, 68, 2**68),
    "naf_net": (17.1, 16_000, 3 * 36, 8**36),
    "bilinear_mlp": (0.93, 0.93, 1, 2),
}
every_network = pytest.mark.parametrize("network", [pytest.param(x, id=x.name) for x in NETWORKS])
# MONet takes four seconds to build and to trace.
every_published = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "mo_net" else ()) for name in PUBLISHED]
)
both_forms = pytest.mark.parametrize("polynomial", [False, True], ids=["published", "polynomial"])


@functools.cache
def published(name):
    return getattr(networks_of_today, name)()


@every_published
def test_sizes_are_those_that_were_published(name):
    parameters, multiplications, _, _ = PUBLISHED[name]
    summary = polynomial_summary(published(name))
    total = summary.total
    assert not summary.unknown
    assert total.parameters == published(name).count_params()
    # To the digits that were published; MONet's 10 M are 10.4 M by the formula.
    assert total.parameters / 1e6 == pytest.approx(parameters, rel=0.04 if name == "mo_net" else 0.01)
    counted = total.multiply_adds + (total.products if name == "star_net" else 0)
    assert counted / 1e6 == pytest.approx(multiplications, rel=0.005)


@every_published
def test_counts_the_products_of_published_networks(name):
    assert count_products(published(name)) == PUBLISHED[name][2]


@every_network
@both_forms
def test_counts_the_products_of_small_networks(network, polynomial):
    model = network.make(**network.small, polynomial=polynomial)
    assert count_products(model) == network.products
    # As a part of a model with a polynomial layer of ours, of two products.
    inputs = keras.Input(model.input_shape[1:])
    outputs = NCP(2, order=3, rank=4)(keras.layers.Flatten()(model(inputs)))
    assert count_products(keras.Model(inputs, outputs)) == network.products + 2


class Weight(keras.layers.Layer):
    """A layer of a user: numbers that are learned, of the shape of its input without the batch."""

    def build(self, shape):
        self.weight = self.add_weight(shape=shape[1:], initializer="ones")

    def call(self, x):
        return ops.broadcast_to(self.weight, ops.shape(x))


ARRAY = np.arange(6, dtype="float32").reshape(2, 3)
OPERATIONS = {
    "Multiply": (lambda x, y: keras.layers.Multiply()([x, y]), 1),
    "Multiply of three": (lambda x, y: keras.layers.Multiply()([x, y, x]), 2),
    "*": (lambda x, y: x * y, 1),
    "ops.multiply": (ops.multiply, 1),
    "of itself": (lambda x, y: x * x, 1),
    "one after another": (lambda x, y: x * y * x + y * 2, 2),
    "broadcast": (lambda x, y: x * y[:, :1], 1),
    "square": (lambda x, y: ops.square(x), 1),
    "power": (lambda x, y: ops.power(x, 5), 4),
    "**": (lambda x, y: x**3, 2),
    "einsum": (lambda x, y: ops.einsum("bij,bij->bij", x, y), 1),
    "einsum that sums": (lambda x, y: ops.einsum("bij,bkj->bik", x, y), 1),
    "number": (lambda x, y: 2 * x, 0),
    "array": (lambda x, y: x * ARRAY, 0),
    "division": (lambda x, y: x / 3, 0),
    "first power": (lambda x, y: x**1, 0),
    "einsum with an array": (lambda x, y: ops.einsum("bij,ij->bij", x, ARRAY), 0),
    "einsum of one": (lambda x, y: ops.einsum("bij->bi", x), 0),
    "affine layers": (lambda x, y: keras.layers.BatchNormalization()(keras.layers.Dense(3)(x)), 0),
    "weight": (lambda x, y: keras.layers.Multiply()([x, Weight()(y)]), 0),
    "sum": (lambda x, y: x + y, 0),
}


@pytest.mark.parametrize(
    ("operation", "products"),
    [pytest.param(*case, id=name) for name, case in OPERATIONS.items()],
)
def test_counts_products_of_what_depends_on_the_input(operation, products):
    register_layer(Weight, "constant")
    x, y = keras.Input((2, 3)), keras.Input((2, 3))
    assert count_products(keras.Model([x, y], operation(x, y))) == products


@tensorflow_only
@every_network
@both_forms
def test_costs_are_those_of_the_profiler(network, polynomial):
    assert_costs_are_those_of_the_profiler(network.make(**network.small, polynomial=polynomial))


@pytest.mark.long
@tensorflow_only
@every_published
@both_forms
def test_costs_of_published_networks_are_those_of_the_profiler(name, polynomial):
    assert_costs_are_those_of_the_profiler(getattr(networks_of_today, name)(polynomial=polynomial))


def assert_costs_are_those_of_the_profiler(model):
    summary = polynomial_summary(model)
    assert not summary.unknown
    assert (summary.total.multiply_adds, summary.total.products) == profile(model)


def test_costs_of_einsums():
    def multiply_adds(equation, *shapes):
        inputs = [keras.Input(shape) for shape in shapes]
        return polynomial_summary(keras.Model(inputs, ops.einsum(equation, *inputs))).total.multiply_adds

    assert multiply_adds("bij,bjk->bik", (4, 5), (5, 6)) == 4 * 5 * 6
    assert multiply_adds("bhwc,bc->bhwc", (4, 5, 6), (6,)) == 4 * 5 * 6
    assert multiply_adds("b...j,b...j->b...", (2, 3, 4, 5), (2, 3, 4, 5)) == 2 * 3 * 4 * 5
    assert multiply_adds("bij->bi", (4, 5)) == 0
    # It depends on which two come first.
    assert multiply_adds("bi,bij,bj->b", (4,), (4, 5), (5,)) is None


def test_costs_of_powers():
    x = keras.Input((4, 5))
    for exponent, products in {1: 0, 2: 20, 3: 40, 5: 80, 0.5: None, -1: None}.items():
        assert polynomial_summary(keras.Model(x, x**exponent)).total.products == products


@every_network
def test_what_makes_the_published_form_no_polynomial(network):
    model = network.make(**network.small)
    report = encryption_report(model)
    assert len(report.obstacles) == network.obstacles
    assert report.ready == (network.obstacles == 0)
    first = report.obstacles[0].layer if report.obstacles else None
    assert first_not_polynomial(model) == first and (degree(model) is None) == (first is not None)


@every_network
def test_polynomial_form_can_be_encrypted(network):
    deep_degree = network.deep_degree or 2**network.deep_levels
    for options, order, levels in (
        (network.small, network.degree, network.levels),
        (network.deep, deep_degree, network.deep_levels),
    ):
        model = network.make(**options, polynomial=True)
        report = encryption_report(model)
        assert degree(model) == polynomial_summary(model).total.degree == order
        assert (report.ready, report.degree, report.multiplicative_depth) == (True, order, levels)


@pytest.mark.long
@every_published
def test_published_networks_without_activations_can_be_encrypted(name):
    _, _, products, order = PUBLISHED[name]
    report = encryption_report(getattr(networks_of_today, name)(polynomial=True))
    assert (report.ready, report.degree, report.multiplicative_depth) == (True, order, products)


# On other backends Keras normalises float64 in float32.
@tensorflow_only
@every_network
def test_contributions_are_those_of_the_twin(network):
    model, z = network.in_float64(network.small)
    parts, expected = contributions(model, z), getattr(parts_twin, network.name)(model, z)
    assert parts.dtype == np.float64 and len(parts) == len(expected) == network.degree + 1
    for part, expected_part in zip(parts, expected):
        assert close(part, expected_part, AS_THE_TWIN)
    assert close(numpy(model(z)), sum(expected), AS_THE_TWIN)
    for part, expected_part in zip(contributions(model, z, max_order=2), expected[:3], strict=True):
        assert close(part, expected_part, AS_THE_TWIN)


@tensorflow_only
@every_network
def test_low_orders_are_those_of_the_values_along_a_line(network):
    model, z = network.in_float64(network.deep)
    z *= network.radius
    parts = contributions(model, z, max_order=3)
    t = np.polynomial.chebyshev.chebpts1(24)
    y = numpy(model(np.concatenate([x * z for x in t])))
    fitted = np.polynomial.chebyshev.chebfit(t, y.reshape(len(t), -1), len(t) - 1)
    expected = np.stack([np.polynomial.chebyshev.cheb2poly(column)[:4] for column in fitted.T], axis=1)
    for part, expected_part in zip(parts, expected, strict=True):
        assert close(part, expected_part.reshape(part.shape), AS_INTERPOLATED)


def close(x, y, tolerance):
    return np.abs(x - y).max() <= tolerance * np.abs(y).max()
