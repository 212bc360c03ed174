"""XLA computes what TensorFlow computes eagerly, values and gradients, in every precision."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import (
    EVERY_LAYER,
    batches_of,
    beside_each_other,
    every_layer_in_the_long_run,
    functional,
    numpy,
    randomise,
    tensorflow_only,
)

pytestmark = tensorflow_only


def values_and_gradients(model, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = sum(tf.reduce_mean(tf.square(tf.cast(output, tf.float32))) for output in tf.nest.flatten(outputs))
    return outputs, tape.gradient(loss, model.trainable_variables)


@every_layer_in_the_long_run
def test_xla_equals_eager(case):
    import tensorflow as tf

    model = functional(case)
    randomise(model)
    before = model.get_weights()
    eager = values_and_gradients(model, keras.tree.map_structure(tf.constant, case.batch()))
    model.set_weights(before)
    compiled = tf.function(values_and_gradients, jit_compile=True)(
        model, keras.tree.map_structure(tf.constant, case.batch())
    )
    for expected, value in zip(tf.nest.flatten(eager), tf.nest.flatten(compiled)):
        scale = max(1.0, np.abs(numpy(expected)).max())
        np.testing.assert_allclose(numpy(value), numpy(expected), rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_xla_compiles_mixed_precision(policy):
    import tensorflow as tf

    model = beside_each_other(EVERY_LAYER, dtype=policy)
    inputs = [tf.constant(part) for part in batches_of(EVERY_LAYER)]
    outputs, gradients = tf.function(values_and_gradients, jit_compile=True)(model, inputs)
    for name, output in zip(EVERY_LAYER, outputs, strict=True):
        assert np.isfinite(numpy(output).astype("float32")).all(), name
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None and np.isfinite(numpy(gradient)).all(), weight.path
