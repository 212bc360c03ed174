"""Models that were saved by earlier code are loaded, and compute what they did."""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest

import pinets_tf.analysis  # noqa: F401 - knows the layer of a truncated model
from tests.conformance.cases import numpy

FOLDER = Path(__file__).parent.parent / "saved_files"
NAMES = sorted(file.stem for file in FOLDER.glob("*.keras"))
EXPECTED = dict(np.load(FOLDER / "expected.npz"))


def values(kind, name):
    """Returns the arrays of one model, the first one first."""
    found = [key for key in EXPECTED if key.startswith(f"{name}-{kind}-")]
    return [EXPECTED[f"{name}-{kind}-{number}"] for number in range(len(found))]


def test_every_expected_model_is_there():
    assert {key.split("-")[0] for key in EXPECTED} == set(NAMES)


@functools.cache
def loaded(name):
    return keras.models.load_model(FOLDER / f"{name}.keras")


def check(model, name):
    inputs, expected = values("input", name), values("output", name)
    outputs = keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    assert len(outputs) == len(expected) > 0
    for number, (output, wanted) in enumerate(zip(outputs, expected)):
        message = f"output {number} of {name}"
        np.testing.assert_allclose(numpy(output), wanted, rtol=1e-5, atol=1e-6, err_msg=message)


@pytest.mark.parametrize("name", NAMES)
def test_saved_files_compute_what_they_did(name):
    check(loaded(name), name)


@pytest.mark.parametrize("name", NAMES)
def test_saved_files_are_saved_and_loaded_again(name, tmp_path):
    model = loaded(name)
    model.save(tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    check(again, name)
    assert again.get_config() == model.get_config()
    for weight, saved in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(numpy(weight), numpy(saved))
