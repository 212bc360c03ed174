"""`build` makes all weights, and shapes are known without running anything."""

import keras
import numpy as np

from pinets_tf.layers import NCP, LogMelSpectrogram, PolynomialResidual, VertexResample, VertexStandardization
from tests.conformance.cases import (
    EVERY_LAYER,
    batches_of,
    every_layer,
    every_layer_in_the_long_run,
    functional,
    numpy,
    one_of_each_layer,
    tensorflow_only,
    with_head,
)

NOT_TRAINED = (LogMelSpectrogram, VertexResample, VertexStandardization)


def rows_of(batch, rows):
    return keras.tree.map_structure(lambda x: x[rows], batch)


@tensorflow_only
@every_layer
def test_build_alone_makes_every_weight(case):
    built, called = case.make(), case.make()
    built.build(case.input_shape)
    called(case.batch())
    assert [weight.shape for weight in built.weights] == [weight.shape for weight in called.weights]
    assert all(inner.built for inner in built._flatten_layers())


@tensorflow_only
@every_layer_in_the_long_run
def test_symbolic_shape_and_type(case):
    symbolic = case.make()(case.each(lambda shape: keras.KerasTensor((None, *shape))))
    concrete = case.make()(case.batch(2))
    assert symbolic.shape == (None, *concrete.shape[1:])
    assert case.make().compute_output_shape(case.input_shape) == symbolic.shape
    assert keras.backend.standardize_dtype(concrete.dtype) == symbolic.dtype == "float32"


@every_layer_in_the_long_run
def test_batches_of_any_size(case):
    model = functional(case)
    whole = numpy(model(case.batch(5)))
    parts = [numpy(model(rows_of(case.batch(5), rows))) for rows in (slice(0, 1), slice(1, 5))]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5)
    # Convolutions of Keras 3.15 fail on an empty batch, and its short-time Fourier transform does on JAX and PyTorch.
    transforms = case.cls is LogMelSpectrogram and keras.backend.backend() != "tensorflow"
    if case.axes < 3 and not transforms:
        assert numpy(model(case.batch(0))).shape == (0, *whole.shape[1:])


@every_layer
def test_unknown_spatial_sizes(case):
    if case.axes < 2 or case.has_template:
        return
    flexible = case.each(lambda shape: keras.Input((*[None] * (len(shape) - 1), shape[-1])))
    layer = case.make()
    model = keras.Model(flexible, layer(flexible))
    small = case.batch(2)
    large = keras.tree.map_structure(lambda x: np.concatenate([x, x], axis=1) if x.ndim > 2 else x, small)
    assert numpy(model(small)).shape[2:] == numpy(model(large)).shape[2:]
    assert numpy(model(large)).shape[1] == 2 * numpy(model(small)).shape[1]


@tensorflow_only  # Elsewhere in mixed precision.
@every_layer_in_the_long_run
def test_works_in_sequential_and_trains(case):
    layer = case.make()
    head = [keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([layer, *head]) if isinstance(case.shape, tuple) else with_head(layer, case, head)
    model.compile(keras.optimizers.SGD(1e-4), "mse")  # Order 4 without a normalisation takes no larger steps.
    history = model.fit(case.batch(8), np.ones(8), epochs=2, batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert bool(layer.trainable_weights) != (case.cls in NOT_TRAINED)
    assert all(np.isfinite(numpy(weight)).all() for weight in layer.weights)


@tensorflow_only
def test_works_in_tf_keras(tmp_path):
    import tensorflow as tf

    inputs = {name: case.each(tf.keras.Input) for name, case in EVERY_LAYER.items()}
    layers = {name: case.make() for name, case in EVERY_LAYER.items()}
    assert all(isinstance(layer, tf.keras.layers.Layer) for layer in layers.values())
    model = tf.keras.Model(tf.nest.flatten(list(inputs.values())), [layers[name](inputs[name]) for name in layers])
    model.save(tmp_path / "model.keras")
    again = tf.keras.models.load_model(tmp_path / "model.keras")
    batch = batches_of(EVERY_LAYER)
    for answers in (model.predict(batch, verbose=0), again.predict(batch, verbose=0)):
        for (name, layer), answer in zip(layers.items(), answers, strict=True):
            expected = numpy(layer(EVERY_LAYER[name].batch()))
            np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@tensorflow_only
@one_of_each_layer
def test_works_in_a_sequential_of_tf_keras(case):
    import tensorflow as tf

    if isinstance(case.shape, tuple):
        layer = case.make()
        sequential = tf.keras.Sequential([tf.keras.Input(case.shape), layer])
        np.testing.assert_allclose(numpy(sequential(case.batch())), numpy(layer(case.batch())), rtol=1e-5, atol=1e-6)


@tensorflow_only
def test_takes_operators_of_tf_keras():
    import tensorflow as tf

    batch = np.ones((2, 6, 6, 3), "float32")
    conv = tf.keras.layers.Conv2D(4, 3, padding="same")
    assert NCP(5, 2, operator=conv, normalize="batch")(batch).shape == (2, 6, 6, 5)
    branch = tf.keras.Sequential([tf.keras.layers.Conv2D(3, 3, padding="same"), tf.keras.layers.BatchNormalization()])
    assert PolynomialResidual(branch, 2, normalize="batch")(batch).shape == batch.shape
