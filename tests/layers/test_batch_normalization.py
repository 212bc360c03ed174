"""The fused batch normalisation gives the numbers of Keras's, forwards, backwards and twice backwards."""

import keras
import numpy as np
import pytest

from pinets_tf.layers import BatchNormalization, PolynomialResidual
from pinets_tf.layers.normalization.batch_normalization import ProductBatchNormalization
from tests.conformance.cases import numpy, randomise, tensorflow_only

RNG = np.random.default_rng(0)
Z = RNG.normal(2.0, 3.0, size=(4, 5, 5, 3)).astype("float32")
FACTOR = RNG.normal(size=Z.shape).astype("float32")


class ProductAsKerasDoes(keras.layers.BatchNormalization):
    def call(self, inputs, factor=None, add_factor=False, add_inputs=False, training=None):
        y = super().call(inputs * factor, training=training)
        return y + (factor if add_factor else 0) + (inputs if add_inputs else 0)


def pair(ours, theirs, **options):
    layers = [cls(momentum=0.7, epsilon=1e-5, **options) for cls in (ours, theirs)]
    for layer in layers:
        layer.build(Z.shape)
        randomise(layer)
    return layers


def close(value, expected, tolerance=1e-5):
    expected = numpy(expected)
    np.testing.assert_allclose(numpy(value), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"axis": 1}, {"axis": 3}], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_equals_keras(options, training):
    ours, theirs = pair(BatchNormalization, keras.layers.BatchNormalization, **options)
    close(ours(Z, training=training), theirs(Z, training=training))
    for value, expected in zip(ours.weights, theirs.weights):
        close(value, expected)


@pytest.mark.parametrize("shape", [(8, 3), (4, 6, 3), (2, 3, 3, 3, 3)])
def test_equals_keras_in_every_rank(shape):
    z = RNG.normal(size=shape).astype("float32")
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
    close(ours(z, training=True), theirs(z, training=True))
    close(ours(z), theirs(z))


def test_masked_steps_do_not_count():
    z = RNG.normal(size=(4, 6, 3)).astype("float32")
    mask = np.arange(6) < np.array([[6], [2], [3], [1]])
    ours, theirs = BatchNormalization(), keras.layers.BatchNormalization()
    close(ours(z, training=True, mask=mask), theirs(z, training=True, mask=mask))
    close(ours.moving_mean, theirs.moving_mean)


@pytest.mark.parametrize("options", [{"synchronized": True}, {"renorm": True}, {"trainable": False}], ids=str)
@tensorflow_only
def test_leaves_to_keras_what_is_not_fused(options):
    ours, theirs = pair(BatchNormalization, keras.layers.BatchNormalization, **options)
    close(ours(Z, training=True), theirs(Z, training=True))


added = pytest.mark.parametrize(
    "added", [{}, {"add_factor": True}, {"add_inputs": True}, {"add_factor": True, "add_inputs": True}], ids=str
)


@added
@pytest.mark.parametrize("training", [False, True])
def test_product_equals_keras(training, added):
    ours, theirs = pair(ProductBatchNormalization, ProductAsKerasDoes)
    options = {"factor": FACTOR, "training": training, **added}
    close(ours(Z, **options), theirs(Z, **options))
    for value, expected in zip(ours.weights, theirs.weights):
        close(value, expected)


def test_product_of_float16_does_not_overflow():
    layer = ProductBatchNormalization(momentum=0.0, dtype="mixed_float16", autocast=False)
    large = (300 * Z).astype("float16")
    for training in (True, False):
        y = layer(large, factor=large, training=training)
        assert keras.backend.standardize_dtype(y.dtype) == "float16"
        close(keras.ops.cast(y, "float32"), layer(large.astype("float32") ** 2, training=training), 1e-3)


def gradients(normalize, normalize_product, z, variables):
    """First and second derivatives through a normalisation and a product with it."""
    import tensorflow as tf

    with tf.GradientTape() as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            x = normalize(z * tf.cast(FACTOR, z.dtype))
            loss = tf.reduce_sum(tf.tanh(normalize_product(x, z + x)) ** 2 + x**3)
        first = inner.gradient(loss, [z, *variables])
        penalty = tf.reduce_sum(first[0] ** 2)
    return [*first, outer.gradient(penalty, z)]


@added
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@tensorflow_only
def test_gradients_and_their_gradients(mode, added):
    import tensorflow as tf

    # The truth in float64, written out: Keras's own second derivative leaves out that of the mean.
    def truth(x, scale, offset):
        mean = tf.reduce_mean(x, (0, 1, 2))
        variance = tf.reduce_mean((x - mean) ** 2, (0, 1, 2))
        return scale * (x - mean) / tf.sqrt(variance + 1e-5) + offset

    layers = [cls(epsilon=1e-5) for cls in (BatchNormalization, ProductBatchNormalization)]
    for layer in layers:
        layer.build(Z.shape)
        randomise(layer)
    variables = [variable.value for layer in layers for variable in layer.trainable_variables]

    def ours(z):
        bn, product_bn = layers
        return gradients(
            lambda x: bn(x, training=True), lambda x, f: product_bn(x, factor=f, training=True, **added), z, variables
        )

    wide = [tf.Variable(tf.cast(variable, tf.float64)) for variable in variables]
    expected = gradients(
        lambda x: truth(x, *wide[:2]),
        lambda x, f: truth(x * f, *wide[2:]) + f * ("add_factor" in added) + x * ("add_inputs" in added),
        tf.constant(Z, tf.float64),
        wide,
    )
    compute = ours if mode == "eager" else tf.function(ours, jit_compile=mode == "xla")
    for value, exact in zip(compute(tf.constant(Z)), expected, strict=True):
        close(value, exact, 1e-4)


@tensorflow_only
def test_training_forms_the_product_again_instead_of_keeping_it():
    import tensorflow as tf

    branch = keras.Sequential([keras.layers.Conv2D(3, 1), BatchNormalization()])
    block = PolynomialResidual(branch, order=2, normalize="batch")
    block.build(Z.shape)

    @tf.function
    def step(z):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(block(z, training=True) ** 2)
        return tape.gradient(loss, block.trainable_variables)

    operations = step.get_concrete_function(tf.TensorSpec(Z.shape)).graph.get_operations()
    # The product is the first input of the normalisation, and the second of its gradient, after that of the output.
    sources = {
        kind: [operation.inputs[index].op for operation in operations if operation.type == kind]
        for kind, index in (("FusedBatchNormV3", 0), ("FusedBatchNormGradV3", 1))
    }
    first, second = ([source for source in found if source.type == "Mul"] for found in sources.values())
    assert len(first) == len(second) == 1 and first[0] is not second[0]
    # Nothing else reads either, and the second waits for the gradient of the output.
    assert [len(product.outputs[0].consumers()) for product in (*first, *second)] == [1, 1]
    assert not first[0].control_inputs and second[0].control_inputs


def test_the_size_of_the_axis_is_known():
    with pytest.raises(ValueError, match=r"must be fully-defined.* Received: shape=\(None,\) for variable path="):
        BatchNormalization()(keras.Input((8, 8, None)))
