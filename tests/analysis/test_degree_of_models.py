"""The degree of every network of the package: a number that is measured, or the layer for which there is none."""

import functools

import keras
import pytest

import pinets_tf.models
from pinets_tf.analysis import degree, first_not_polynomial
from pinets_tf.models import (
    linear_generator,
    mel_front_end,
    mesh_autoencoder,
    resnet,
    sngan_discriminator,
    sngan_generator,
    stylegan_discriminator,
    stylegan_generator,
    stylegan_mapping,
    stylegan_synthesis,
)
from tests.models.test_mesh_autoencoder import hierarchy
from tests.polynomial_degree import assert_polynomial_degree, multiplies_in_float64, normalises_in_float64

# What is no network, but makes one of others or helps to.
OTHERS = {"carry_weights", "fold_normalization", "mel_mean_and_variance"}


def before_logits(network):
    return keras.Model(network.input, network.layers[-1].input)


CHANNELS = {"base_channels": 64, "max_channels": 8}
POLYNOMIAL = {
    # Its logits are float32 under every policy.
    "resnet": (lambda: before_logits(resnet((8, 8, 1), 3, stage_blocks=(1, 1), order=2, width=4, gate=False)), 4),
    "mesh_autoencoder": (
        lambda: mesh_autoencoder(hierarchy((40, 12), (6, 5)), "full", activation=None, widths=(6,), latent=4),
        4,
    ),
}
# The type of the layer that is to blame, and its activation.
NONE = {
    "linear_generator": (lambda: linear_generator(width=0.05), "Activation tanh"),
    "mel_front_end": (mel_front_end, "LogMelSpectrogram"),
    "sngan_generator": (lambda: sngan_generator(width=4), "Activation relu"),
    "sngan_discriminator": (lambda: sngan_discriminator(width=4), "Activation relu"),
    "stylegan_mapping": (lambda: stylegan_mapping(3, 4, 4, polynomial=True), "UnitNormalization"),
    "stylegan_synthesis": (lambda: stylegan_synthesis(16, latent=6, **CHANNELS), "LeakyReLU"),
    "stylegan_generator": (
        lambda: stylegan_generator(stylegan_mapping(6, 6), stylegan_synthesis(16, latent=6, **CHANNELS)),
        "UnitNormalization",
    ),
    "stylegan_discriminator": (lambda: stylegan_discriminator(16, **CHANNELS), "LeakyReLU"),
}


def in_float64(make):
    keras.config.set_dtype_policy("float64")
    # `keras.Input` rounds to floatx under every policy.
    keras.config.set_floatx("float64")
    try:
        return make()
    finally:
        keras.config.set_floatx("float32")


def test_no_network_is_left_out():
    assert POLYNOMIAL.keys() | NONE.keys() == set(pinets_tf.models.__all__) - OTHERS


@normalises_in_float64
@multiplies_in_float64
@pytest.mark.parametrize("name", POLYNOMIAL)
def test_is_the_measured_one(name):
    make, expected = POLYNOMIAL[name]
    network = in_float64(make)
    assert degree(network) == expected
    assert_polynomial_degree(network, network.input_shape[1:], expected, lines=2)


@normalises_in_float64
@multiplies_in_float64
def test_a_mapping_is_polynomial_behind_its_normalisation():
    mapping = in_float64(lambda: stylegan_mapping(3, 4, 4, polynomial=True))
    behind = keras.Model(mapping.get_layer("unit").output, mapping.output)
    assert degree(behind) == 4
    assert_polynomial_degree(behind, (3,), 4)


@pytest.mark.parametrize("name", NONE)
def test_names_what_makes_it_none(name):
    make, blamed = NONE[name]
    network = make()
    assert degree(network) is None
    layer = functools.reduce(
        lambda model, name: model.get_layer(name), first_not_polynomial(network).split("/"), network
    )
    activation = getattr(layer, "activation", None)
    assert " ".join([type(layer).__name__, *([activation.__name__] if activation else [])]) == blamed
