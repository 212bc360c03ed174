"""Padding with a mask changes no answer of a real step, or the layer does not say that it supports masks."""

import warnings

import keras
import numpy as np
import pytest

from pinets_tf import layers
from pinets_tf.layers import (
    CCP,
    NCP,
    BatchNormalization,
    EqualizedLearningRate,
    Injection,
    NCPSkip,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpectralNormalization,
)
from tests.conformance.cases import CASES, numpy, of_ours, randomise, tensorflow_only

# Of models Keras says that they destroy masks, which their layers hand on (3.15).
pytestmark = [
    tensorflow_only,
    pytest.mark.filterwarnings(r"ignore:Layer '.*' \(of type Sequential\) was passed an input with a mask"),
]

NORMALIZERS = (None, "batch", "layer", "instance", "affine", "offset", "tanh")
# Makers of every layer that takes sequences (batch, steps, 4), and whether each is expected to support masks.
SEQUENCES = {
    f"{cls.__name__}-{normalize}-{place}{'-gate' * gate}": (
        lambda cls=cls, normalize=normalize, place=place, gate=gate: cls(
            3, 2, rank=4, normalize=normalize, normalize_at=place, gate=gate
        ),
        normalize != "instance",
    )
    for cls, normalize, place, gate in [
        *[(NCPSkip, normalize, "product", gate) for normalize in NORMALIZERS for gate in (False, True)],
        (CCP, "batch", "order", False),
        (CCP, "batch", "product", True),
        (NCP, "batch", "last", True),
    ]
}


def _sequential(*parts):
    return keras.Sequential(list(parts))


def _dense(**options):
    return keras.layers.Dense(4, **options)


SEQUENCES |= {
    "BatchNormalization": (BatchNormalization, True),
    "learned skip": (lambda: NCPSkip(None, 3, rank=4, learn_skip=True, normalize="batch"), True),
    "identity factors": (lambda: CCP(None, 3, rank=4, identity_factors=True, normalize="batch"), True),
    "normalisation of Keras": (lambda: NCP(3, 2, rank=4, normalize=keras.layers.BatchNormalization()), True),
    "normalisation with a map": (
        lambda: NCP(3, 2, rank=4, normalize=_sequential(_dense(), keras.layers.BatchNormalization())),
        True,
    ),
    "group normalisation": (lambda: NCP(3, 2, rank=4, normalize=keras.layers.GroupNormalization(2)), False),
    "layer normalisation over steps": (
        lambda: CCP(3, 2, rank=4, normalize=keras.layers.LayerNormalization(axis=[1, 2])),
        False,
    ),
    "operator with statistics": (
        lambda: NCP(3, 2, operator=_sequential(_dense(), keras.layers.BatchNormalization())),
        True,
    ),
    "polynomial as operator": (lambda: CCP(3, 2, operator=NCPSkip(4, 2, rank=3, normalize="batch")), True),
    "convolution as operator": (lambda: CCP(3, 2, operator=keras.layers.Conv1D(4, 3, padding="same")), False),
    "residual": (lambda: PolynomialResidual(_dense(), 3, normalize="batch", gate=True), True),
    "residual of order 1": (lambda: PolynomialResidual(BatchNormalization(), 1), True),
    "residual of branches": (
        lambda: PolynomialResidual(
            _sequential(_dense(), BatchNormalization(), NCPSkip(4, 2, rank=3, normalize="batch")),
            2,
            _sequential(_dense(), BatchNormalization()),
            factor=NCP(4, 2, rank=3, normalize="batch"),
            normalize="batch",
        ),
        True,
    ),
    "residual of a convolution": (lambda: PolynomialResidual(keras.layers.Conv1D(4, 3, padding="same")), False),
    "residual of group normalisation": (lambda: PolynomialResidual(keras.layers.GroupNormalization(2)), False),
    "pooled": (lambda: PooledProduct(_dense(), 3, normalize="batch", gate=True, data_format="channels_last"), True),
    "pooled channels first": (lambda: PooledProduct(_dense(), data_format="channels_first"), False),
    "product": (
        lambda: ProdPoly(
            [
                NCPSkip(4, 2, rank=3, normalize="batch"),
                BatchNormalization(),
                _sequential(_dense(), BatchNormalization()),
                PooledProduct(_dense(), data_format="channels_last"),
                CCP(4, 2, rank=3, normalize="batch"),
            ]
        ),
        True,
    ),
    "product of group normalisation": (lambda: ProdPoly([_dense(), keras.layers.GroupNormalization(2)]), False),
    "spectral": (lambda: SpectralNormalization(_dense(), seed=0), True),
    "equalised": (lambda: EqualizedLearningRate(_dense()), True),
    "equalised convolution": (lambda: EqualizedLearningRate(keras.layers.Conv1D(4, 3)), False),
}
STEPS, PADDED = 5, 12


def sequences(seed=0):
    """Returns sequences, the same padded with large numbers, and the mask."""
    real = np.random.default_rng(seed).normal(size=(6, STEPS, 4)).astype("float32") + 1
    padding = np.full((6, PADDED - STEPS, 4), 7.0, "float32")
    return real, np.concatenate([real, padding], axis=1), np.arange(PADDED)[None].repeat(6, 0) < STEPS


def answers(layer, inputs, mask, training):
    """Returns the answers of the real steps and the weights after one call, from one state of the layer."""
    before = layer.get_weights()
    y = layer(inputs, training=training, **({} if mask is None else {"mask": mask}))
    after = layer.get_weights()
    layer.set_weights(before)
    return [numpy(y)[:, :STEPS], *after]


def assert_padding_changes_nothing(layer, inputs, padded, mask):
    assert layer.supports_masking
    for training in (False, True):
        expected = answers(layer, inputs, None, training)
        for value, right in zip(answers(layer, padded, mask, training), expected, strict=True):
            np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SEQUENCES)
def test_padding_changes_no_answer_of_a_real_step(name):
    make, supports = SEQUENCES[name]
    layer = make()
    assert layer.supports_masking == supports
    if not supports:
        return
    real, padded, mask = sequences()
    layer.build((None, None, 4))
    randomise(layer)
    assert_padding_changes_nothing(layer, real, padded, mask)


@pytest.mark.parametrize("name", [name for name, (_, supports) in SEQUENCES.items() if supports])
def test_masks_come_from_the_layer_before_and_are_handed_on(name):
    layer = SEQUENCES[name][0]()
    real, padded, mask = sequences()
    z = keras.Input((None, 4))
    masked = keras.Model(z, layer(keras.layers.Masking(7.0)(z)))
    randomise(layer)
    expected = answers(layer, real, None, True)[0]
    y = masked(padded, training=True)
    np.testing.assert_allclose(numpy(y)[:, :STEPS], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(numpy(y._keras_mask), mask)


@pytest.mark.parametrize("normalize", [None, "batch"])
@pytest.mark.parametrize("factor", [None, lambda: NCP(4, 2, rank=3, normalize="batch")], ids=["vector", "sequence"])
def test_padding_changes_no_answer_of_an_injection(normalize, factor):
    layer = Injection(factor and factor(), normalize=normalize, skip=True, offset=True, data_format="channels_last")
    real, padded, mask = sequences()
    latents, padded_latents = (real[:, 0], padded[:, 0]) if factor is None else (sequences(1)[0], sequences(1)[1])
    layer.build([real.shape, latents.shape])
    randomise(layer)
    masks = [mask, None if factor is None else mask]
    assert_padding_changes_nothing(layer, [real, latents], [padded, padded_latents], masks)
    assert not Injection(normalize="instance").supports_masking
    assert not Injection(keras.layers.Conv1D(4, 3, padding="same")).supports_masking


def test_steps_of_rows():
    # A mask of steps is one of all rows of a step, here of images of two rows.
    layer = ProdPoly([NCPSkip(4, 2, rank=3, normalize="batch"), PooledProduct(_dense(), data_format="channels_last")])
    real, padded, mask = sequences()
    real, padded = (np.stack([x, x * x], axis=2) for x in (real, padded))
    layer.build((None, None, 2, 4))
    randomise(layer)
    assert_padding_changes_nothing(layer, real, padded, mask)


@of_ours
def test_every_layer_is_here_or_says_that_it_supports_no_masks():
    here = {type(make()) for make, supports in SEQUENCES.values() if supports} | {Injection}
    for name in layers.__all__:
        if getattr(layers, name) not in {*here, layers.Polynomial}:
            case = next(case for case in CASES.values() if case.cls is getattr(layers, name))
            layer = case.make()
            assert not layer.supports_masking, name
            z = keras.KerasTensor((2, *case.shape))
            z._keras_mask = keras.KerasTensor((2, case.shape[0]), "bool")
            with pytest.warns(UserWarning, match="does not support masking"):
                assert not hasattr(layer(z), "_keras_mask")


def test_nothing_is_said_where_masks_are_supported():
    _, padded, mask = sequences()
    layer = SEQUENCES["residual"][0]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(padded, mask=mask)
