"""Scores and pictures of a trained generator."""

import keras
import numpy as np
import pytest
from absl import flags

from pinets_tf.metrics import KerasExtractor, reference_statistics, score_images
from pinets_tf.training import draw_generator, draw_latents, pixels_of, score_generator


@pytest.fixture
def values(monkeypatch, tmp_path):
    """Flags as an example has them, after `parse`."""
    registry = flags.FlagValues()
    flags.DEFINE_integer("seed", 0, "", flag_values=registry)
    flags.DEFINE_string("latents", "uniform", "", flag_values=registry)
    flags.DEFINE_integer("score_images", 40, "", flag_values=registry)
    flags.DEFINE_string("reference", str(tmp_path / "reference.npz"), "", flag_values=registry)
    flags.DEFINE_integer("kid_images", 0, "", flag_values=registry)
    flags.DEFINE_float("average", 0.0, "", flag_values=registry)
    registry(["script"])
    monkeypatch.setattr(flags, "FLAGS", registry)
    return registry


def network():
    keras.utils.set_random_seed(0)
    z = keras.Input((3,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(48, "tanh")(z))
    return keras.Model(z, keras.layers.Reshape((4, 4, 3))(x))


def colour():
    layers = [keras.Input((None, None, 3)), keras.layers.Rescaling(1 / 255), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential(layers)
    return keras.Model(model.inputs, [*model.outputs, *model.outputs])


def test_images_do_not_depend_on_their_batch():
    # In training mode a normalisation over the batch would make each image of all others in it.
    generator = network()
    generator(np.random.default_rng(1).normal(size=(64, 3)), training=True)
    latents = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    whole, alone = pixels_of(generator)(latents), pixels_of(generator, batch_size=1)(latents)
    np.testing.assert_array_equal(whole, alone)
    assert whole.dtype == np.uint8 and len(np.unique(whole.reshape(7, -1), axis=0)) == 7


def test_latents_are_all_different(values):
    latents = draw_latents(network(), 1000, 3)
    assert latents.shape == (1000, 3) and len(np.unique(latents, axis=0)) == 1000
    assert np.abs(latents).max() <= 1 and np.abs(latents - draw_latents(network(), 1000, 1)).max() > 0.1
    values.latents = "normal"
    assert np.abs(draw_latents(network(), 1000, 3)).max() > 1


def test_copies_of_a_batch_are_not_scored():
    extractor = KerasExtractor(colour(), "-colour", resize="none")
    batch = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3)).astype("uint8")
    reference = reference_statistics([batch], extractor)
    options = {"images": 20, "reference_split": "noise", "averaged_weights": False, "splits": None}
    with pytest.raises(ValueError, match="not of copies of a few"):
        score_images([batch, batch], extractor, reference, **options)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Forty images are few.
def test_scores_and_pictures(values, tmp_path):
    real = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3)).astype("uint8")
    extractor = KerasExtractor(colour(), "-colour", resize="none")
    options = {"reference": "noise train"}
    first = score_generator(network(), extractor, real, tmp_path, **options)
    assert first["FID-colour"] > 0 and first["IS-colour"] >= 1
    assert "images: 40; reference: noise train (30 images)" in first["scored"] and "not averaged" in first["scored"]
    # The statistics are read from their file the next time.
    assert score_generator(network(), extractor, real[:0], tmp_path, **options) == first
    values["kid_images"].value = 20
    with_kid = score_generator(network(), extractor, real, tmp_path, **options)
    assert with_kid["KID-colour"] > 0 and with_kid["FID-colour"] == first["FID-colour"]
    assert score_generator(network(), None, real, tmp_path, **options) == {}
    draw_generator(network(), tmp_path)
    assert (tmp_path / "interpolation.png").exists() and not (tmp_path / "contributions.png").exists()
