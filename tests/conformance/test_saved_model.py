"""A SavedModel and a TFLite file compute what the layer computes, and TFLite with builtin operators alone."""

import contextlib
import io

import numpy as np
import pytest

from tests.conformance.cases import (
    CASES,
    EVERY_LAYER,
    batches_of,
    beside_each_other,
    numpy,
    randomise,
    tensorflow_only,
)

pytestmark = tensorflow_only


@pytest.fixture(scope="module", params=[EVERY_LAYER, pytest.param(CASES, marks=pytest.mark.long)], ids=len)
def exported(request, tmp_path_factory):
    """All layers beside each other, and their SavedModel."""
    model = beside_each_other(request.param)
    randomise(model)
    folder = tmp_path_factory.mktemp("saved_model")
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(folder, verbose=False)
    return request.param, model, str(folder)


def check(cases, answers, expected, tolerance):
    for name, answer, wanted in zip(cases, answers, expected, strict=True):
        scale = max(1.0, np.abs(numpy(wanted)).max())
        np.testing.assert_allclose(
            numpy(answer), numpy(wanted), rtol=10 * tolerance, atol=tolerance * scale, err_msg=name
        )


def test_saved_model(exported):
    import tensorflow as tf

    cases, model, folder = exported
    loaded = tf.saved_model.load(folder)
    for size in (1, 5):
        batch = batches_of(cases, size)
        check(cases, loaded.serve(batch), model(batch), 1e-5)


def test_tflite(exported):
    import tensorflow as tf

    litert = pytest.importorskip("ai_edge_litert.interpreter")
    cases, model, folder = exported
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert.Interpreter(model_content=converter.convert())
    runner = interpreter.get_signature_runner()
    # Keras names inputs after those of the model, and outputs by their positions.
    for size in (1, 3):
        batch = batches_of(cases, size)
        answers = runner(**{tensor.name: part for tensor, part in zip(model.inputs, batch)})
        check(cases, [answers[f"output_{i}"] for i in range(len(cases))], model(batch), 1e-4)
