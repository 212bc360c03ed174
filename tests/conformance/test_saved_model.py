"""A SavedModel and a TFLite file compute what the layer computes, and TFLite with builtin operators alone."""

import contextlib
import io

import keras
import numpy as np
import pytest

from tests.conformance.cases import every_layer_in_the_long_run, functional, numpy, randomise, tensorflow_only

pytestmark = tensorflow_only


@every_layer_in_the_long_run
def test_saved_model_and_tflite(case, tmp_path):
    model = functional(case)
    randomise(model)
    with contextlib.redirect_stdout(io.StringIO()):
        model.export(tmp_path / "saved_model", verbose=False)
    check_saved_model(case, model, str(tmp_path / "saved_model"))
    check_tflite(case, model, str(tmp_path / "saved_model"))


def check_saved_model(case, model, folder):
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    for size in (1, 5):
        expected = numpy(model(case.batch(size)))
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(loaded.serve(case.batch(size)).numpy(), expected, rtol=1e-4, atol=1e-5 * scale)


def check_tflite(case, model, folder):
    import tensorflow as tf

    litert = pytest.importorskip("ai_edge_litert.interpreter")
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert.Interpreter(model_content=converter.convert())
    # In the order of their names, which is that of the inputs.
    inputs = [part["index"] for part in sorted(interpreter.get_input_details(), key=lambda part: part["name"])]
    outputs = interpreter.get_output_details()[0]["index"]
    for size in (1, 3):
        batches = keras.tree.flatten(case.batch(size))
        for position, batch in zip(inputs, batches):
            interpreter.resize_tensor_input(position, batch.shape)
        interpreter.allocate_tensors()
        for position, batch in zip(inputs, batches):
            interpreter.set_tensor(position, batch)
        interpreter.invoke()
        expected = numpy(model(case.batch(size)))
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(interpreter.get_tensor(outputs), expected, rtol=1e-3, atol=1e-4 * scale)
