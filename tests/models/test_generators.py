"""The generators of Sec. 4.1 and 5.1 and their discriminator."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import count_products, degree, first_not_polynomial, product_stages, without_products
from pinets_tf.models import linear_generator, sngan_discriminator, sngan_generator
from tests.conformance.cases import first_elsewhere, numpy, randomise
from tests.polynomial_degree import assert_polynomial_degree, normalises_in_float64


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def before_tanh(model):
    return keras.Model(model.inputs[0], model.layers[-1].input)


def latents(count, size=128, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).astype("float32")


def test_sizes_of_the_public_experiment():
    model = linear_generator()
    assert trainable(model) == 5_015_425
    assert degree(before_tanh(model)) == 54
    assert not [layer for layer in model.layers if getattr(layer, "activation", None) is keras.activations.relu]
    assert model.get_layer(first_not_polynomial(model)).activation is keras.activations.tanh


@pytest.mark.parametrize("size, expected", [(32, 3 * 9 * 2), (64, 3 * 10 * 2)])
def test_degree_follows_from_the_steps(size, expected):
    assert degree(before_tanh(linear_generator(size, width=0.05))) == expected


@normalises_in_float64
def test_degree_of_a_small_generator_by_differences():
    keras.config.set_dtype_policy("float64")
    # `keras.Input` rounds to floatx under every policy.
    keras.config.set_floatx("float64")
    model = before_tanh(linear_generator(latent=4, order=1, width=0.02))
    randomise(model)
    assert degree(model) == 18
    # Of so many steps that all differences stay above rounding: those before the third polynomial.
    part = keras.Model(model.inputs[0], model.get_layer("polynomial_2_step_5").output)
    keras.config.set_floatx("float32")
    assert degree(part) == 5
    assert_polynomial_degree(part, (4,), 5)


def test_products_are_switched_off_from_the_last_to_the_first():
    model = before_tanh(linear_generator(width=0.05))
    randomise(model)
    assert count_products(model) == 2 + 8 + 1
    degrees = [degree(without_products(model, after)) for after in range(12)]
    assert degrees == [1, 2, 3, *(3 * n for n in range(2, 10)), 54]
    z = latents(3)
    np.testing.assert_array_equal(numpy(without_products(model, 11)(z)), numpy(model(z)))
    assert [degree(make()) for make in product_stages(model).values()] == degrees
    assert list(product_stages(model, most=3)) == ["0", "6", "11"]
    assert product_stages(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])) == {}
    linear = without_products(model, 0)
    total, one, other = (numpy(linear(part)) for part in (z[:1] + z[1:2], z[:1], z[1:2]))
    np.testing.assert_allclose(total + numpy(linear(0 * z[:1])), one + other, rtol=1e-3, atol=1e-3 * np.abs(one).max())


@pytest.mark.parametrize("after", [-1, 12, 1.0, True])
def test_there_are_so_many_products(after):
    with pytest.raises(ValueError, match=r"for a model of 11 products\. Pass a number from 0 to 11"):
        without_products(linear_generator(width=0.02), after)


def test_parameters_of_sngan():
    # The baseline, and what A_n adds: a matrix and a bias for each of three blocks.
    assert trainable(sngan_generator()) == 4_276_739
    assert trainable(sngan_generator(injection=True)) == 4_276_739 + 3 * (128 * 256 + 256)
    vectors = 3 * 128 * 128 + 2 * 128 + 2 * 128 + 1  # A_1, A_2, S_2; b_1, b_2; scale and offset; a gate
    product = sngan_generator(injection=True, polynomials=2)
    assert trainable(product) == 4_276_739 + 3 * (128 * 256 + 256) + vectors


def test_an_injection_of_ones_is_the_baseline():
    plain, injected = sngan_generator(width=8), sngan_generator(width=8, injection=True)
    injections = [layer for layer in injected.layers if layer.name.startswith("injection")]
    kept = [weight for layer in injected.layers if layer not in injections for weight in layer.weights]
    for new, old in zip(kept, plain.weights, strict=True):
        new.assign(old)
    for layer in injections:
        layer.A.kernel.assign(np.zeros(layer.A.kernel.shape))
        layer.A.bias.assign(np.ones(layer.A.bias.shape))
    np.testing.assert_allclose(numpy(injected(latents(2))), numpy(plain(latents(2))), atol=1e-6)


@pytest.mark.parametrize("size, channels", [(32, 3), (64, 1)])
def test_images_and_scores(size, channels):
    for generator in (
        linear_generator(size, channels, width=0.05),
        sngan_generator(size, channels, width=4),
        sngan_generator(size, channels, width=4, injection=True, polynomials=2),
    ):
        images = numpy(generator(latents(2)))
        assert images.shape == (2, size, size, channels) and np.abs(images).max() <= 1
        scores = sngan_discriminator(size, channels, width=4)(images)
        assert scores.shape == (2, 1)


def test_every_kernel_of_the_discriminator_is_normalised():
    model = sngan_discriminator(width=4)
    wrapped = [layer for layer in model.layers if type(layer).__name__ == "SpectralNormalization"]
    assert trainable(model) == sum(trainable(layer) for layer in wrapped)
    assert len(wrapped) == 3 + 3 + 2 + 2 + 1
    assert not any(weight.path.endswith("bias") for weight in wrapped[-1].weights)


def test_the_last_map_is_summed():
    model = sngan_discriminator(width=4)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    last = keras.Model(model.inputs[0], model.get_layer("scores").input)
    maps = keras.Model(model.inputs[0], model.get_layer("block_4").output)
    expected = np.maximum(numpy(maps(images)), 0).sum((1, 2))
    np.testing.assert_allclose(numpy(last(images)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", first_elsewhere(["mixed_float16", "mixed_bfloat16"]))
def test_precision(policy):
    keras.config.set_dtype_policy(policy)
    for model in (linear_generator(width=0.05), sngan_generator(width=4, injection=True, polynomials=2)):
        images = model(latents(2))
        assert images.dtype == np.float32 and np.isfinite(numpy(images)).all()
        assert sngan_discriminator(channels=images.shape[-1], width=4)(images).dtype == np.float32


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: linear_generator(48), "`size` must be one of 32, 64, 128"),
        (lambda: linear_generator(width=0), "`width` must be a positive number"),
        (lambda: linear_generator(latent=0), "`latent` must be a positive integer"),
        (lambda: linear_generator(width="1"), "`width` must be a positive number. Received: width='1'. Pass 1.0"),
        (lambda: sngan_generator(latent=0), "`latent` must be a positive integer. Received: latent=0. Pass a number"),
        (lambda: sngan_generator(48), "4 times a power of two, at least 8. Received: size=48"),
        (lambda: sngan_generator(polynomials=2), "polynomials=2 with injection=False. Pass injection=True"),
        (lambda: sngan_discriminator(8), "4 times a power of two, at least 16"),
        (lambda: sngan_discriminator(width=0), "`width` must be a positive integer"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()
