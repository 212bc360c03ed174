"""The tensors of Eq. 2 are those of the slow twin, and give the network again."""

import itertools
import math

import keras
import numpy as np
import pytest

from pinets_tf.analysis import NotPolynomial, coefficients, contributions, evaluate
from pinets_tf.layers import CCP, NCP, Injection, NCPSkip, PolynomialResidual
from pinets_tf.models import resnet
from tests import slow_twin
from tests.conformance.cases import CASES, ON_TENSORFLOW, first_elsewhere, numpy, randomise, tensorflow_only
from tests.polynomial_degree import multiplies_in_float64

pytestmark = multiplies_in_float64


def built(layer, *shapes):
    layer.build([(None, *shape) for shape in shapes] if len(shapes) > 1 else (None, *shapes[0]))
    randomise(layer)
    return layer


def symmetrised(W):
    orders = list(itertools.permutations(range(1, W.ndim)))
    return sum(np.transpose(W, [0, *order]) for order in orders) / len(orders)


def close(x, y):
    return x.shape == y.shape and np.abs(x - y).max() <= 1e-10 * np.abs(y).max()


@pytest.mark.parametrize("order", first_elsewhere([5, 1, 2, 3, 4]))
@pytest.mark.parametrize("cls", [CCP, NCP, NCPSkip])
def test_are_those_of_the_slow_twin(cls, order):
    options = {"learn_skip": True} if cls is NCPSkip and order == 3 else {}
    layer = built(cls(3, order, rank=4, dtype="float64", **options), (4,))
    beta, tensors = slow_twin.expand(layer)
    symmetric, factored = coefficients(layer), coefficients(layer, symmetric=False)
    assert len(symmetric.tensors) == len(factored.tensors) == len(tensors)
    assert close(symmetric.constant, beta) and close(factored.constant, beta)
    assert all(map(close, factored.tensors, tensors))
    assert all(map(close, symmetric.tensors, map(symmetrised, tensors)))
    z = np.random.default_rng(0).normal(size=(3, 4))
    assert close(evaluate(symmetric, z), slow_twin.evaluate(beta, tensors, z))


NETWORKS = {
    "ProdPoly": lambda: CASES["ProdPoly"].make(dtype="float64"),
    "residual with a factor": lambda: PolynomialResidual(
        keras.layers.Dense(5), 3, factor=keras.layers.Dense(5), normalize="batch", gate=True, dtype="float64"
    ),
    "residual with a shortcut": lambda: PolynomialResidual(
        keras.layers.Dense(3), 4, keras.layers.Dense(3), normalize="affine", normalize_at="order", dtype="float64"
    ),
}


@pytest.mark.parametrize("name", first_elsewhere(list(NETWORKS)))
def test_give_the_layer_again(name):
    layer = built(NETWORKS[name](), (5,))
    z = np.random.default_rng(0).normal(size=(3, 5))
    found = coefficients(layer, 4)
    parts = contributions(layer, z, max_order=4)
    tolerance = 1e-10 if ON_TENSORFLOW else 1e-5
    np.testing.assert_allclose(evaluate(found, z), parts.sum(0), rtol=tolerance, atol=tolerance)
    for n, W in enumerate(coefficients(layer, 3, symmetric=False).tensors, start=1):
        scale = np.abs(W).max()
        np.testing.assert_allclose(symmetrised(W), found.tensors[n - 1], atol=tolerance * scale)


def test_two_inputs_lie_one_after_another():
    layer = built(Injection(skip=True, offset=True, dtype="float64"), (2, 3), (2,))
    found = coefficients(layer)
    linear, bilinear = found.tensors
    A, a, B, b = map(numpy, layer.weights)
    at = np.tile(np.eye(3), (2, 1))
    np.testing.assert_allclose(found.constant, np.tile(b, 2), atol=1e-12)
    np.testing.assert_allclose(linear, np.concatenate([np.diag(np.tile(a + 1, 2)), at @ B.T], axis=1), atol=1e-12)
    expected = np.zeros((6, 8, 8))
    for output in range(6):
        expected[output, output, 6:] = expected[output, 6:, output] = A[:, output % 3] / 2
    np.testing.assert_allclose(bilinear, expected, atol=1e-12)
    maps, latents = np.ones((4, 2, 3)), np.full((4, 2), 0.3)
    y = numpy(layer([maps, latents])).reshape(4, -1)
    np.testing.assert_allclose(evaluate(found, [maps, latents]), y, rtol=1e-10)


@pytest.fixture(scope="module")
def network():
    model = resnet((3, 3, 1), 2, stage_blocks=(1, 1), order=2, width=2, gate=False)
    randomise(model)
    return model


@tensorflow_only
def test_a_float32_network_has_those_of_its_float64_copy(network):
    found = coefficients(network)
    assert [W.shape for W in found.tensors] == [(2, *[9] * n) for n in range(1, 5)]
    z = np.random.default_rng(0).normal(size=(3, 3, 3, 1)).astype("float32")
    np.testing.assert_allclose(evaluate(found, z), numpy(network(z)), rtol=1e-4, atol=1e-4)
    assert all(layer.compute_dtype == "float32" for layer in network.layers)
    # An entry is a derivative, here one of central differences of float64.
    i, j = 3, 7
    ends = [evaluate(found, (p * np.eye(9)[i] + q * np.eye(9)[j])[None])[0] for p in (-1, 1) for q in (-1, 1)]
    even = (ends[0] - ends[1] - ends[2] + ends[3]) / 4
    fourth = sum(math.comb(4, k) * found.tensors[3][(slice(None), *[i] * k, *[j] * (4 - k))] for k in (1, 3))
    np.testing.assert_allclose(even, 2 * found.tensors[1][:, i, j] + fourth, rtol=1e-10, atol=1e-12)


def test_a_graph_of_shared_and_nested_layers_and_arithmetic():
    a, b = keras.Input((2,)), keras.Input((3,))
    shared = CCP(3, 2, rank=3)
    nested = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), CCP(3, 2, rank=2)])
    model = keras.Model([a, b], shared(keras.layers.Dense(3)(a)) * shared(b) + nested(b) - 1.0)
    found = coefficients(model)
    assert [W.shape for W in found.tensors] == [(3, *[5] * n) for n in range(1, 5)]
    z = [np.random.default_rng(0).normal(size=(4, size)).astype("float32") for size in (2, 3)]
    np.testing.assert_allclose(evaluate(found, z), numpy(model(z)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("symmetric", first_elsewhere([True, False]))
def test_entries_are_those_of_the_whole_tensors(network, symmetric):
    _, second, third = coefficients(network, 3, symmetric=symmetric).tensors
    scale = 1e-10 * np.abs(third).max()
    some = coefficients(network, entries=(5, slice(1, 8, 3), [2, 0, -1]), symmetric=symmetric)
    np.testing.assert_allclose(some, third[:, 5, 1:8:3][:, :, [2, 0, -1]], atol=scale)
    one = coefficients(network, 2, entries=(5, np.int64(7)), symmetric=symmetric)
    np.testing.assert_allclose(one, second[:, 5, 7], atol=scale)


def test_entries_of_an_input_that_is_too_large_for_tensors():
    layer = built(CCP(2, 3, rank=4), (3072,))
    U1, U2, U3 = (numpy(factor.kernel).astype("float64") for factor in layer.factors)
    C = numpy(layer.C.kernel).astype("float64")
    i, j = 17, [3071, 5]
    expected = np.einsum("ro,r,jr,jr->oj", C, U3[i], U2[j], U1[j])
    found = coefficients(layer, entries=(i, [3071, 5], [3071, 5]), symmetric=False)
    np.testing.assert_allclose(np.einsum("ojj->oj", found), expected, rtol=1e-10)
    found = coefficients(layer, entries=(i, [3071, 5], [3071, 5]))
    of_pairs = sum(np.einsum("ro,ar,br,cr->oabc", C, *(U[[i, *j]] for U in order)) for order in ordered(U1, U2, U3)) / 6
    np.testing.assert_allclose(found, of_pairs[:, 0, 1:, 1:], rtol=1e-10)
    assert not coefficients(layer, entries=(0, 1, 2, 3)).any()


def ordered(*factors):
    return list(itertools.permutations(factors))


class Untold(keras.layers.Dense):
    def get_config(self):
        raise RuntimeError("no config")


def test_errors():
    large = built(CCP(2, 3, rank=4), (3072,))
    with pytest.raises(
        ValueError, match=r"At most 16,777,216 .* 3,072 inputs and order=3, which are 58,000,939,008 entr.*`entries`"
    ):
        coefficients(large)
    with pytest.raises(ValueError, match=r"order=5000, which are about 10\^17437 entries"):
        coefficients(large, 5000)
    with pytest.raises(ValueError, match=r"order=None, which are 18,874,368 entries"):
        coefficients(large, entries=(slice(None), slice(None)))
    for entries in ((), (1, 2), 3, [1, 2, 3]):
        with pytest.raises(
            ValueError, match=r"a tuple of one index .* Received: entries=.* with order=3\. Pass for ex"
        ):
            coefficients(large, 3, entries=entries)
    for index in (3072, -3073, 1.5, [], "all"):
        with pytest.raises(ValueError, match=r"integer from 0 to 3071.* Received: .*\. Pass numbers of inputs"):
            coefficients(large, entries=(index,))
    with pytest.raises(ValueError, match=r"`order` must be a positive integer.* Received: order=0\. Pass the last"):
        coefficients(large, 0)
    z = keras.Input((4,))
    with pytest.raises(ValueError, match=r"of one output\. Received: .*, with 2 outputs\. Pass keras\.Model"):
        coefficients(keras.Model(z, [z, z]))
    with pytest.raises(ValueError, match=r"size must be known\. Received: \(None, None, None, 1\)\. Build the model"):
        coefficients(resnet((None, None, 1), 2, stage_blocks=(1,), width=2))
    with pytest.raises(ValueError, match=r"float64 layers.* Received: untold, .* cannot be made again.* Give its"):
        coefficients(built(Untold(2, name="untold"), (3,)))
    with pytest.raises(ValueError, match=r"with its weights\. Received: .* Pass a model that was built"):
        coefficients(CCP(2, 2, rank=3))
    with pytest.raises(NotPolynomial, match=r"the layer relu .*, which is none of these"):
        coefficients(built(keras.layers.Dense(2, activation="relu", name="relu"), (3,)))
    with pytest.raises(ValueError, match=r"the size of its tensors\. Received: 4 numbers for .* size 3\. Pass what"):
        evaluate(coefficients(built(CCP(2, 2, rank=3), (3,))), np.zeros((2, 4)))


def test_what_a_normalisation_has_adapted_to_is_kept():
    samples = np.random.default_rng(0).normal(5, 3, (64, 4)).astype("float32")
    adapted = keras.layers.Normalization()
    adapted.adapt(samples)
    model = keras.Sequential([keras.Input((4,)), adapted, keras.layers.Dense(2)])
    found = evaluate(coefficients(model), samples)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(samples)), rtol=1e-4, atol=1e-4)
