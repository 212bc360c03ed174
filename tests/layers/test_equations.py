"""The layers compute the equations of the paper."""

import itertools

import keras
import numpy as np
import pytest

from pinets_tf.analysis import degree
from pinets_tf.layers import CCP, NCP, NCPSkip, PolynomialResidual, PooledProduct, ProdPoly
from tests.polynomial_degree import (
    assert_polynomial_degree,
    differences,
    multiplies_in_float64,
    normalises_in_float64,
)
from tests.slow_twin import evaluate, expand

pytestmark = multiplies_in_float64

DECOMPOSITIONS = [
    pytest.param(CCP, {}, id="CCP"),
    pytest.param(NCP, {}, id="NCP"),
    pytest.param(NCPSkip, {}, id="NCPSkip"),
    pytest.param(NCPSkip, {"learn_skip": True}, id="NCPSkip-V"),
]


def make(cls, order, **options):
    """Returns a small float64 layer on 5 features, every weight of it random, also those that start at zero or one."""
    layer = cls(3, order, rank=4, dtype="float64", **options)
    layer.build((None, 5))
    rng = np.random.default_rng(order)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("cls, options", DECOMPOSITIONS)
def test_equals_full_tensors_of_eq_2(cls, options, order):
    layer, z = make(cls, order, **options), np.random.default_rng(0).normal(size=(6, 5))
    np.testing.assert_allclose(numpy(layer(z)), evaluate(*expand(layer), z), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("cls", [CCP, NCP, NCPSkip])
def test_identity_factors_are_products_with_z(cls):
    layer = cls(3, 3, rank=5, identity_factors=True, dtype="float64")
    layer.build((None, 5))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    z = rng.normal(size=(6, 5))
    np.testing.assert_allclose(numpy(layer(z)), evaluate(*expand(layer), z), rtol=1e-11, atol=1e-11)
    assert len(cls(3, 3, rank=5).factors) == 3 and not any(factor.weights for factor in layer.factors[1:])


def test_twin_has_the_published_tensors_of_ccp_3():
    layer = make(CCP, 3)
    C, U1, U2, U3 = (numpy(part.kernel) for part in (layer.C, *layer.factors))
    _, (W1, W2, W3) = expand(layer)
    np.testing.assert_allclose(W1, np.einsum("ro,ar->oa", C, U1))
    np.testing.assert_allclose(_symmetric(W2), _symmetric(np.einsum("ro,ar,br->oab", C, U1, U2 + U3)))
    np.testing.assert_allclose(_symmetric(W3), _symmetric(np.einsum("ro,ar,br,cr->oabc", C, U1, U2, U3)))


def test_twin_has_the_published_tensors_of_ncp_3():
    layer = make(NCP, 3)
    C, A1, A2, A3, S2, S3 = (numpy(part.kernel) for part in (layer.C, *layer.factors, *layer.S))
    b1, b2, b3 = (numpy(b) for b in layer.b)
    _, (W1, W2, W3) = expand(layer)
    np.testing.assert_allclose(W1, np.einsum("ro,r,ar->oa", C, b3, A3))
    np.testing.assert_allclose(W2, np.einsum("ro,ar,sr,bs,s->oab", C, A3, S3, A2, b2))
    np.testing.assert_allclose(W3, np.einsum("ro,ar,sr,bs,ts,ct,t->oabc", C, A3, S3, A2, S2, A1, b1))


def _symmetric(W):
    """Only the symmetric part of a tensor acts on z, z, ..., z."""
    axes = list(range(1, W.ndim))
    orders = [list(order) for order in itertools.permutations(axes)]
    return sum(np.transpose(W, [0, *p]) for p in orders) / len(orders)


@pytest.mark.parametrize("order", range(1, 9))
@pytest.mark.parametrize("cls, options", DECOMPOSITIONS)
def test_degree_is_the_order(cls, options, order):
    assert_polynomial_degree(make(cls, order, **options), (5,), order)


@pytest.mark.parametrize("normalize", ["layer", "tanh"])
@pytest.mark.parametrize("cls", [CCP, NCP, NCPSkip])
def test_other_normalisations_are_no_polynomials(cls, normalize):
    layer = make(cls, 2, normalize=normalize)
    rng = np.random.default_rng(3)
    _, above, rounding = differences(layer, rng.normal(size=5), rng.normal(size=5), 2)
    assert above > 1e6 * rounding


@pytest.mark.parametrize("cls, options", DECOMPOSITIONS)
def test_zero_gives_beta(cls, options):
    layer = make(cls, 4, **options)
    np.testing.assert_array_equal(numpy(layer(np.zeros((2, 5)))), [numpy(layer.C.bias)] * 2)


@pytest.mark.parametrize("cls", [CCP, NCP, NCPSkip])
def test_order_one_is_a_dense_layer(cls):
    layer, z = make(cls, 1), np.random.default_rng(1).normal(size=(4, 5))
    beta, (W,) = expand(layer)
    dense = keras.layers.Dense(3, dtype="float64")
    dense.build((None, 5))
    dense.set_weights([W.T, beta])
    np.testing.assert_allclose(numpy(layer(z)), numpy(dense(z)), rtol=1e-12)


def test_units_none_returns_the_last_state():
    z = np.random.default_rng(1).normal(size=(4, 5))
    layer = CCP(None, 3, rank=4, dtype="float64")
    x = numpy(layer(z))
    U = [z @ numpy(U_n.kernel) for U_n in layer.factors]
    np.testing.assert_allclose(x, U[0] * (1 + U[1]) * (1 + U[2]))


@normalises_in_float64
@pytest.mark.parametrize("place", ["product", "order", "last"])
def test_places_of_the_normalisation(place):
    layer, z = make(CCP, 3, normalize="tanh", normalize_at=place), np.random.default_rng(1).normal(size=(4, 5))
    U1, U2, U3 = (z @ numpy(U_n.kernel) for U_n in layer.factors)
    x = U1
    for n, U_n in ((2, U2), (3, U3)):
        product = U_n * x
        if place == "product" or (place == "last" and n == 3):
            x = np.tanh(product) + x
        else:
            x = product + x if place == "last" else np.tanh(product + x)
    np.testing.assert_allclose(numpy(layer(z)), x @ numpy(layer.C.kernel) + numpy(layer.C.bias), rtol=1e-10)


@normalises_in_float64
@pytest.mark.parametrize("normalize", ["batch", "layer"])
@pytest.mark.parametrize("cls", [CCP, NCPSkip])
def test_a_gated_normalisation_is_a_normalisation_times_a_gate(cls, normalize):
    layer = cls(3, 2, rank=4, gate=True, normalize=normalize, dtype="float64")
    layer.build((None, 5))
    assert_polynomial_degree(layer, (5,), 1)
    rng, z = np.random.default_rng(0), np.random.default_rng(1).normal(size=(4, 5))
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    plain = cls(3, 2, rank=4, normalize=normalize, dtype="float64")
    plain.build((None, 5))
    plain.set_weights([numpy(weight) for weight in layer.weights if not weight.path.endswith("gate")])
    first_order = cls(3, 2, rank=4, normalize=normalize, gate=True, dtype="float64")
    first_order.build((None, 5))
    first_order.set_weights([numpy(weight) * (not weight.path.endswith("gate")) for weight in layer.weights])
    gate = numpy(layer.normalizers[0].gate)
    expected = numpy(first_order(z)) + gate * (numpy(plain(z)) - numpy(first_order(z)))
    np.testing.assert_allclose(numpy(layer(z)), expected, rtol=1e-10)


def test_gate_starts_at_the_first_order_and_then_weighs_products():
    z = np.random.default_rng(1).normal(size=(4, 5))
    for cls in (CCP, NCP, NCPSkip):
        layer = cls(3, 4, rank=4, gate=True, dtype="float64")
        layer.build((None, 5))
        assert_polynomial_degree(layer, (5,), 1)
        for gate in layer.gates[1:]:
            gate.assign(0.5)
        for gate in layer.gates[:1]:
            gate.assign(-0.7)
        assert_polynomial_degree(layer, (5,), 4)
    layer = make(CCP, 2, gate=True)
    U1, U2 = (z @ numpy(U_n.kernel) for U_n in layer.factors)
    x = numpy(layer.gates[0]) * U2 * U1 + U1
    np.testing.assert_allclose(numpy(layer(z)), x @ numpy(layer.C.kernel) + numpy(layer.C.bias), rtol=1e-10)


@pytest.mark.parametrize("order", range(1, 6))
def test_residual_block_is_the_sum_of_the_paper(order):
    branch = keras.layers.Dense(5, use_bias=False, dtype="float64")
    block, z = PolynomialResidual(branch, order, dtype="float64"), np.random.default_rng(2).normal(size=(4, 5))
    y, Cz = numpy(block(z)), z @ numpy(branch.kernel)
    np.testing.assert_allclose(y, z + sum(Cz * z**power for power in range(order)), rtol=1e-12, atol=1e-12)
    assert_polynomial_degree(block, (5,), order)


@normalises_in_float64
def test_residual_block_multiplies_with_the_projected_shortcut():
    branch, shortcut = keras.layers.Dense(3, dtype="float64"), keras.layers.Dense(3, dtype="float64")
    block = PolynomialResidual(branch, 2, shortcut, normalize="batch", dtype="float64")
    z = np.random.default_rng(2).normal(size=(4, 5))
    y, s, Cz = numpy(block(z)), numpy(shortcut(z)), numpy(branch(z))
    np.testing.assert_allclose(y, s + Cz + s * Cz / np.sqrt(1 + 1e-5), rtol=1e-10)


def test_residual_block_multiplies_with_a_factor_of_the_shortcut():
    branch, factor = (keras.layers.Dense(5, use_bias=False, dtype="float64") for _ in range(2))
    block = PolynomialResidual(branch, 3, factor=factor, dtype="float64")
    z = np.random.default_rng(2).normal(size=(4, 5))
    y, Cz, Az = numpy(block(z)), z @ numpy(branch.kernel), z @ numpy(factor.kernel)
    np.testing.assert_allclose(y, z + Cz + Az * (Cz + Az * Cz), rtol=1e-12)
    assert_polynomial_degree(block, (5,), 3)


@normalises_in_float64
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_pooled_product(data_format):
    layer = PooledProduct(keras.layers.Dense(3), 3, normalize="tanh", data_format=data_format, dtype="float64")
    z = np.random.default_rng(2).normal(size=(4, 6, 5, 3))
    pooled, x = z.mean((1, 2)), z
    first = data_format == "channels_first"
    y = numpy(layer(np.moveaxis(z, -1, 1) if first else z))
    for P_n in layer.factors:
        x = np.tanh((pooled @ numpy(P_n.kernel) + numpy(P_n.bias))[:, None, None] * x) + x
    np.testing.assert_allclose(np.moveaxis(y, 1, -1) if first else y, x, rtol=1e-10)


def test_degree_of_a_pooled_product_with_a_polynomial():
    layer = PooledProduct(CCP(2, 2, rank=3), 3, dtype="float64")
    layer.build((None, 4, 2))
    assert_polynomial_degree(layer, (4, 2), 5)
    assert degree(layer) == 5


def test_gated_pooled_product_starts_at_the_identity():
    z = np.random.default_rng(2).normal(size=(4, 5, 3)).astype("float32")
    layer = PooledProduct(keras.layers.Dense(3), 2, normalize="tanh", gate=True)
    np.testing.assert_array_equal(numpy(layer(z)), z)
    np.testing.assert_array_equal(numpy(PooledProduct(keras.layers.Dense(3), 1)(z)), z)


def test_orders_multiply_in_a_product_of_polynomials():
    options = {"dtype": "float64"}
    product = ProdPoly([NCP(4, 2, rank=4, **options), CCP(4, 3, rank=4, **options)], **options)
    nested = ProdPoly([product, NCPSkip(2, 2, rank=3, **options)], **options)
    assert (product.order, nested.order) == (6, 12)
    assert_polynomial_degree(product, (5,), 6)
    assert_polynomial_degree(nested, (5,), 12)


@normalises_in_float64
@pytest.mark.parametrize("cls", [CCP, NCP, NCPSkip])
def test_convolutions_are_a_polynomial_of_each_neighbourhood(cls):
    layer = cls(2, 3, operator=keras.layers.Conv2D(4, 3, padding="same"), normalize="batch", dtype="float64")
    layer.build((None, 6, 6, 2))
    assert_polynomial_degree(layer, (6, 6, 2), 3)
    z = np.random.default_rng(0).normal(size=(1, 6, 6, 2))
    before = numpy(layer(z))
    z[0, 5, 5] += 1.0
    changed = np.abs(numpy(layer(z)) - before).max(-1)[0] > 1e-12
    assert changed[5, 5] and not changed[0, 0]
    assert not any(factor.use_bias for factor in layer.factors)
