"""TensorFlow saves and restores every weight: `tf.train.Checkpoint` and `tf.saved_model.save`."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.analysis.test_degree_of_models import NONE, POLYNOMIAL
from tests.conformance.cases import (
    CASES,
    CHOSEN,
    FIRST,
    functional,
    numpy,
    one_of_each_layer,
    randomise,
    tensorflow_only,
)

pytestmark = tensorflow_only

NETWORKS = {name: make for name, (make, _) in (POLYNOMIAL | NONE).items()}
RESTORE_ALL = """
import sys, numpy as np, tensorflow as tf
from tests.conformance.test_checkpoint import answers, everything
# Layers that were made before do not change the names in a checkpoint.
everything(names=["NCP", "ProdPoly"])
parts = everything()
tf.train.Checkpoint(**parts).restore(sys.argv[1]).assert_consumed()
expected = np.load(sys.argv[2])
for name, values in answers(parts).items():
    for key, value in values.items():
        np.testing.assert_allclose(value, expected[f"{name}/{key}"], rtol=1e-4, atol=1e-5, err_msg=f"{name}/{key}")
print(len(parts))
"""


def everything(names=None):
    """Returns every layer and every network, built."""
    parts = {}
    for name, case in CASES.items():
        if names is None or name in names:
            parts[name] = case.make()
            parts[name].build(case.input_shape)
    return parts if names else {**parts, **{name: make() for name, make in NETWORKS.items()}}


def answers(parts):
    """Returns the weights of every part, and what the first variant of each layer answers."""
    found = {name: dict(enumerate(map(numpy, part.weights))) for name, part in parts.items()}
    for name, case in FIRST.values():
        found[name]["answer"] = numpy(parts[name](case.batch(2)))
    return found


def saved_sizes(checkpoint):
    import tensorflow as tf

    found = {}
    for name, shape in tf.train.list_variables(checkpoint):
        part, _, inner = name.partition("/")
        if inner and part != "save_counter":
            found.setdefault(part, []).append(tuple(shape))
    return {part: sorted(shapes) for part, shapes in found.items()}


def test_every_weight_comes_back_in_a_fresh_process(tmp_path):
    import tensorflow as tf

    parts = everything()
    for part in parts.values():
        randomise(part)
    checkpoint = tf.train.Checkpoint(**parts).save(str(tmp_path / "checkpoint"))
    assert saved_sizes(checkpoint) == {
        name: sorted(tuple(weight.shape) for weight in part.weights) for name, part in parts.items() if part.weights
    }
    expected = {f"{name}/{key}": value for name, values in answers(parts).items() for key, value in values.items()}
    np.savez(tmp_path / "answers.npz", **expected)
    command = [sys.executable, "-c", RESTORE_ALL, checkpoint, str(tmp_path / "answers.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == str(len(parts))


@one_of_each_layer
def test_weights_come_back_beside_an_optimizer(case, tmp_path):
    import tensorflow as tf

    def made():
        model, optimizer = functional(case), keras.optimizers.SGD(momentum=0.9)
        optimizer.build(model.trainable_variables)
        return {"model": model, "optimizer": optimizer}

    first, second = made(), made()
    randomise(first["model"])
    checkpoint = tf.train.Checkpoint(**first).save(str(tmp_path / "checkpoint"))
    held = len(first["model"].weights) + len(first["optimizer"].variables)
    assert sum(map(len, saved_sizes(checkpoint).values())) == held
    tf.train.Checkpoint(**second).restore(checkpoint).assert_consumed()
    for weight, expected in zip(second["model"].weights, first["model"].weights):
        np.testing.assert_array_equal(numpy(weight), numpy(expected), err_msg=weight.path)


@one_of_each_layer
def test_weights_that_are_not_made_yet_come_back_when_they_are(case, tmp_path):
    import tensorflow as tf

    first, second = case.make(), case.make()
    first.build(case.input_shape)
    randomise(first)
    checkpoint = tf.train.Checkpoint(layer=first).save(str(tmp_path / "checkpoint"))
    restored = tf.train.Checkpoint(layer=second).restore(checkpoint)
    second.build(case.input_shape)
    restored.assert_consumed()
    for weight, expected in zip(second.weights, first.weights):
        np.testing.assert_array_equal(numpy(weight), numpy(expected), err_msg=weight.path)


WITH_LISTS = ("NCPSkip-learned-batch", "NCP-gate", "CCP-gate-instance", "ProdPoly", "SpiralPolynomial-order-3-residual")


@pytest.mark.parametrize("name", CASES if CHOSEN else WITH_LISTS)
def test_saved_models_hold_every_weight(name, tmp_path):
    import tensorflow as tf

    case = CASES[name]
    model = functional(case)
    randomise(model)
    tf.saved_model.save(model, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    answer = loaded.signatures["serving_default"](tf.constant(case.batch(2)))["output_0"]
    np.testing.assert_allclose(numpy(answer), numpy(model(case.batch(2))), rtol=1e-4, atol=1e-5)
    assert len(tf.train.list_variables(str(tmp_path / "variables" / "variables"))) == len(model.weights) + 1
