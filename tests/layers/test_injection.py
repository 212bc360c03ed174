"""Products of maps with vectors made from latents."""

import keras
import numpy as np
import pytest

from pinets_tf.layers import NCP, Injection
from tests.conformance.cases import numpy

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(3, 4, 5, 2)).astype("float32"), RNG.normal(size=(3, 6)).astype("float32")


def randomised(layer, inputs):
    layer(inputs)
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return layer


def linear(dense, z):
    return (z @ numpy(dense.kernel) + numpy(dense.bias))[:, None, None]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("offset", [False, True])
def test_equation(skip, offset):
    layer = randomised(Injection(skip=skip, offset=offset), [X, Z])
    expected = linear(layer.A, Z) * X + skip * X + (linear(layer.B, Z) if offset else 0)
    np.testing.assert_allclose(numpy(layer([X, Z])), expected, rtol=1e-5, atol=1e-5)


def test_adain_is_an_injection_behind_an_instance_normalisation():
    # The textbook: each channel of each image gets the mean and the deviation that a style says.
    layer = randomised(Injection(skip=True, offset=True), [X, Z])
    normalised = keras.layers.GroupNormalization(groups=-1, center=False, scale=False, epsilon=0.0)(X)
    images = numpy(layer([normalised, Z]))
    np.testing.assert_allclose(images.mean((1, 2)), linear(layer.B, Z)[:, 0, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(images.std((1, 2)), np.abs(1 + linear(layer.A, Z)[:, 0, 0]), rtol=1e-4, atol=1e-5)


def test_steps_of_vectors_are_an_ncp():
    ncp = randomised(NCP(None, 3, rank=4), Z)
    x = ncp.factors[0](Z) * ncp.b[0]
    for n in (2, 3):
        state = ncp.S[n - 2](x) + ncp.b[n - 1]
        step = Injection(keras.layers.Dense(4, use_bias=False))
        step.build([(None, 4), (None, 6)])
        step.A.kernel.assign(ncp.factors[n - 1].kernel)
        x = step([state, Z])
    np.testing.assert_allclose(numpy(x), numpy(ncp(Z)), rtol=1e-5, atol=1e-5)


def test_a_map_times_a_convolution_of_it():
    layer = randomised(Injection(keras.layers.Conv2D(2, 3, padding="same")), [X, X])
    np.testing.assert_allclose(numpy(layer([X, X])), numpy(layer.A(X)) * X, rtol=1e-5, atol=1e-6)


def test_starts_at_the_map_or_at_the_skip():
    np.testing.assert_array_equal(numpy(Injection(skip=True, gate=True)([X, Z])), X)
    ones = Injection(kernel_initializer="zeros", bias_initializer="ones")
    np.testing.assert_array_equal(numpy(ones([X, Z])), X)


def test_channels_first():
    first, last = Injection(data_format="channels_first"), Injection(data_format="channels_last")
    moved = np.moveaxis(X, -1, 1)
    randomised(first, [moved, Z])
    last.build([X.shape, Z.shape])
    last.set_weights(first.get_weights())
    np.testing.assert_allclose(numpy(first([moved, Z])), np.moveaxis(numpy(last([X, Z])), -1, 1), rtol=1e-6)
