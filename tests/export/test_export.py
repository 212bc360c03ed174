"""Exports: versions, agreement, and errors."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf.export import convert, export_saved_model
from pinets_tf.models import (
    linear_generator,
    resnet,
    sngan_generator,
    stylegan_generator,
    stylegan_mapping,
    stylegan_synthesis,
)
from tests.commands import call


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "network.keras"
    resnet((8, 8, 3), 4, stage_blocks=(1, 1), width=4).save(file)
    return file


def test_export_and_verify(model_file, tmp_path):
    for version in ("1", "2"):
        done = call("export/saved_model.py", model_file, "--output", tmp_path / "served")
        assert done.stdout.strip() == str(tmp_path / "served" / "network" / version)
    (tmp_path / "served" / "network" / "7").mkdir()
    call("export/saved_model.py", model_file, "--output", tmp_path / "served")
    versions = sorted(path.name for path in (tmp_path / "served" / "network").iterdir())
    assert versions == ["1", "2", "7", "8"]
    saved_model, tflite = tmp_path / "served" / "network" / "1", tmp_path / "network.tflite"
    names = [variable.name for variable in tf.saved_model.load(saved_model).variables]
    # The normalisations of products are folded, those behind convolutions are left.
    assert any("normalize_2/gamma" in name for name in names) and any("moving_mean" in name for name in names)
    assert not any("normalize_2/moving" in name for name in names)
    call("export/tflite.py", saved_model, "--output", tflite, "--precision", "float32")
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).normal(size=(5, 8, 8, 3)))
    done = call("export/verify.py", model_file, saved_model, tflite, "--inputs", tmp_path / "inputs.npy")
    for line in done.stdout.splitlines():
        result = json.loads(line)
        assert result["largest_relative_difference"] < 1e-4 and result["same_answer"] == 1.0
        assert len(result["first_outputs"]) == 4


def small_stylegan():
    synthesis = stylegan_synthesis(32, latent=6, base_channels=64, max_channels=8)
    model = stylegan_generator(stylegan_mapping(6, 6, polynomial=True), synthesis)
    # Until it is trained, its first map is constant and has no deviation to be divided by.
    constant = synthesis.get_layer("constant")
    constant.set_weights([np.random.default_rng(1).normal(size=weight.shape) for weight in constant.get_weights()])
    return model


@pytest.mark.parametrize(
    "make, channels",
    [
        (lambda: linear_generator(latent=6, width=0.02), 1),
        pytest.param(
            lambda: sngan_generator(latent=6, width=4, injection=True, polynomials=2), 3, marks=pytest.mark.long
        ),
        pytest.param(small_stylegan, 3, marks=pytest.mark.long),
    ],
    ids=["linear", "sngan", "stylegan"],
)
def test_a_generator_returns_pixels(tmp_path, make, channels):
    generator = make()
    generator.save(tmp_path / "generator.keras")
    saved_model = export_saved_model(generator, tmp_path / "served", "generator", images=True)
    (tmp_path / "generator.tflite").write_bytes(convert(saved_model))
    np.save(tmp_path / "latents.npy", np.random.default_rng(0).uniform(-1, 1, (5, 6)))
    exports = [saved_model, tmp_path / "generator.tflite", "--inputs", tmp_path / "latents.npy"]
    done = call("export/verify.py", tmp_path / "generator.keras", *exports)
    for line in done.stdout.splitlines():
        assert json.loads(line)["first_outputs"] == {"shape": [32, 32, channels], "type": "uint8"}
        assert json.loads(line)["largest_relative_difference"] < 1e-4


def test_pixels_are_of_images_alone(model_file, tmp_path):
    done = call("export/saved_model.py", model_file, "--output", tmp_path, "--images", check=False)
    assert done.returncode == 1 and "outputs of shape (None, 4). Leave out --images" in done.stderr
    assert not list(tmp_path.rglob("saved_model.pb"))


@pytest.mark.parametrize(
    "command, words",
    [
        (
            ["export/saved_model.py", "none.keras", "--output", "served"],
            "a .keras file. Received: none.keras",
        ),
        (["export/tflite.py", "none", "--output", "a.tflite"], "A SavedModel is a folder with saved_model.pb"),
    ],
)
def test_errors(command, words, tmp_path):
    done = call(*command, cwd=tmp_path, check=False)
    assert done.returncode == 1 and words in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_damaged_model_file(model_file, tmp_path):
    (tmp_path / "half.keras").write_bytes(model_file.read_bytes()[:1000])
    done = call("export/saved_model.py", tmp_path / "half.keras", "--output", tmp_path / "served", check=False)
    assert done.returncode == 1 and "half.keras, which cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "served").exists()


def test_a_layer_that_tflite_lacks_is_refused(tmp_path):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.ops.cumprod(inputs, axis=1)).export(tmp_path / "model", verbose=False)
    done = call("export/tflite.py", tmp_path / "model", "--output", tmp_path / "model.tflite", check=False)
    assert done.returncode == 1 and "made of builtin operators" in done.stderr
    assert not (tmp_path / "model.tflite").exists()
