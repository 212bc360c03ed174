"""Saved layers come back, in this process and in a fresh one."""

import gc
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.conformance.cases import (
    ALL,
    CHOSEN,
    every_layer,
    every_layer_in_the_long_run,
    functional,
    numpy,
    randomise,
    tensorflow_only,
)

# What a user imports who loads a file.
MODULES = {case.cls.__module__ for case in ALL.values()} if CHOSEN else {"pinets_tf"}
LOAD_ALL = f"""
import sys, pathlib, numpy as np, keras, {", ".join(MODULES)}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(path)
    expected, *inputs = np.load(path.with_suffix(".npz")).values()
    inputs = inputs if len(inputs) > 1 else inputs[0]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(inputs)), expected, rtol=1e-5, atol=1e-5)
    print(path.stem, type(model.layers[-1]).__name__)
"""


@every_layer
def test_keras_file_and_weights_file(case, tmp_path):
    model = functional(case)
    randomise(model)
    expected = numpy(model(case.batch()))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[-1]) is case.cls
    np.testing.assert_array_equal(numpy(again(case.batch())), expected)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = functional(case)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(numpy(fresh(case.batch())), expected)


@tensorflow_only  # What a file needs is imported in the same way on every backend.
def test_keras_files_in_a_fresh_process(tmp_path):
    for name, case in ALL.items():
        model = functional(case)
        randomise(model)
        model.save(tmp_path / f"{name}.keras")
        np.savez(tmp_path / f"{name}.npz", numpy(model(case.batch())), *keras.tree.flatten(case.batch()))
    command = [sys.executable, "-c", LOAD_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    loaded = dict(line.split() for line in done.stdout.splitlines())
    assert loaded == {name: case.cls.__name__ for name, case in ALL.items()}


@pytest.fixture(scope="module")
def quick_collections():
    # Keras collects garbage after each layer that it quantises: what is there before need not be looked through.
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("quick_collections")
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@every_layer_in_the_long_run
def test_quantised_layers_come_back(case, tmp_path):
    model = functional(case)
    randomise(model)
    before = numpy(model(case.batch()))
    model.quantize("int8")
    expected = numpy(model(case.batch()))
    assert np.abs(expected - before).max() < 0.1 * np.abs(before).max()
    quantised = [layer for layer in model._flatten_layers() if layer.quantization_mode]
    assert bool(quantised) == any(type(layer) is keras.layers.Dense for layer in model._flatten_layers())
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again(case.batch())), expected)
    assert len([layer for layer in again._flatten_layers() if layer.quantization_mode]) == len(quantised)
