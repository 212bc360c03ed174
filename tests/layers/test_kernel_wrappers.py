"""Layers that run another with a kernel made from the stored one: their numbers, gradients, types and errors."""

import keras
import numpy as np
import pytest
from keras import layers

from pinets_tf.layers import NCP
from pinets_tf.layers.generation.equalized_learning_rate import EqualizedLearningRate
from pinets_tf.layers.generation.spectral_normalization import SpectralNormalization
from tests.conformance.cases import numpy, tensorflow_only


def normal(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# A layer, the shape of its input, and its kernel as a matrix with a column for each output channel.
CASES = {
    "dense": (lambda: layers.Dense(4, activation="tanh"), (3, 5), lambda W: W),
    "einsum": (
        lambda: layers.EinsumDense("abc,dce->abde", (None, 4, 2), bias_axes="d"),
        (2, 5, 3),
        lambda W: W.transpose(1, 0, 2).reshape(3, 8),
    ),
    "conv": (lambda: layers.Conv2D(4, 3, strides=2), (2, 6, 6, 3), lambda W: W.reshape(-1, 4)),
    "dilated": (lambda: layers.Conv1D(4, 3, dilation_rate=2), (2, 9, 3), lambda W: W.reshape(-1, 4)),
    "transposed": (
        lambda: layers.Conv2DTranspose(4, 3, strides=2),
        (2, 5, 5, 3),
        lambda W: W.transpose(0, 1, 3, 2).reshape(-1, 4),
    ),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (2, 6, 6, 3), lambda W: W.reshape(-1, 6)),
}
each_layer = pytest.mark.parametrize("name", CASES)


def converged(layer, inputs, iterations=100, **options):
    """Returns the layer, spectrally normalised, after so many iterations that u no longer moves."""
    wrapped = SpectralNormalization(layer, iterations, seed=1, **options)
    wrapped.build(inputs.shape)
    kernel = wrapped.layer.trainable_weights[0]
    kernel.assign(normal(*kernel.shape, seed=4))
    wrapped(inputs, training=True)
    return wrapped


@each_layer
def test_sigma_is_the_largest_singular_value(name):
    make, shape, as_matrix = CASES[name]
    wrapped = converged(make(), normal(*shape))
    wrapped.layer.bias.assign(normal(*wrapped.layer.bias.shape, seed=2))
    W = numpy(wrapped.layer.kernel)
    sigma = np.linalg.svd(as_matrix(W), compute_uv=False)[0]
    for training in (False, True):
        got = numpy(wrapped(normal(*shape), training=training))
        np.testing.assert_array_equal(numpy(wrapped.layer.kernel), W)
        plain = make()
        plain.build(shape)
        plain.set_weights([W / sigma, numpy(wrapped.layer.bias)])
        np.testing.assert_allclose(got, numpy(plain(normal(*shape))), rtol=1e-4, atol=1e-5)


def test_the_numbers_of_keras():
    ours, theirs = SpectralNormalization(layers.Conv2D(4, 3)), layers.SpectralNormalization(layers.Conv2D(4, 3))
    inputs = normal(2, 6, 6, 3)
    for wrapped in (ours, theirs):
        wrapped.build(inputs.shape)
    W, u = 3 * numpy(ours.layer.kernel), numpy(ours.u)
    ours.layer.kernel.assign(W)
    theirs.layer.kernel.assign(W)
    theirs.vector_u.assign(u[None])
    np.testing.assert_allclose(
        numpy(ours(inputs, training=True)), numpy(theirs(inputs, training=True)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(numpy(ours.u), numpy(theirs.vector_u)[0], rtol=1e-4, atol=1e-6)
    assert np.abs(numpy(ours.layer.kernel) - numpy(theirs.layer.kernel)).max() > 0.1
    np.testing.assert_array_equal(numpy(ours.layer.kernel), W)


def test_u_moves_in_training_alone():
    wrapped = SpectralNormalization(layers.Dense(4), power_iterations=2)
    wrapped.build((3, 5))
    u, W = numpy(wrapped.u), numpy(wrapped.layer.kernel)
    wrapped(normal(3, 5))
    np.testing.assert_array_equal(numpy(wrapped.u), u)
    for _ in range(2):
        wrapped(normal(3, 5), training=True)
    for _ in range(4):
        u = W.T @ (W @ u)
        u /= np.linalg.norm(u)
    np.testing.assert_allclose(numpy(wrapped.u), u, rtol=1e-4, atol=1e-6)


def test_u_repeats_from_run_to_run():
    def first_u(seed=None):
        keras.utils.set_random_seed(3)
        wrapped = SpectralNormalization(layers.Dense(4), seed=seed)
        wrapped.build((3, 5))
        return numpy(wrapped.u)

    np.testing.assert_array_equal(first_u(), first_u())
    np.testing.assert_array_equal(first_u(5), first_u(5))
    assert np.abs(first_u(5) - first_u(6)).max() > 0.1


@tensorflow_only
@pytest.mark.parametrize("name", ["dense", "conv"])
def test_gradients_flow_through_sigma(name):
    import tensorflow as tf

    make, shape, as_matrix = CASES[name]
    wrapped = converged(make(), normal(*shape, dtype="float64"), iterations=400, dtype="float64")
    inputs = tf.constant(normal(*shape, dtype="float64"))
    kernel = wrapped.layer.kernel
    plain = make()
    plain.dtype_policy = keras.dtype_policies.get("float64")
    plain.build(shape)
    W = numpy(kernel)
    U, singular, Vh = np.linalg.svd(as_matrix(W), full_matrices=False)
    plain.kernel.assign(W / singular[0])
    gradients = []
    for layer in (plain, wrapped):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer(inputs)))
        gradients.append(numpy(tape.gradient(loss, layer.trainable_variables[0])))
    G, got = gradients
    # The columns of the kernel as a matrix are its last axis here.
    expected = (G - np.sum(G * W / singular[0]) * np.outer(U[:, 0], Vh[0]).reshape(W.shape)) / singular[0]
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)
    # What one gets by dividing with a constant, as Keras's layer does.
    assert np.abs(got - G / singular[0]).max() > 0.01 * np.abs(got).max()
    # sigma at convergence is a function of W alone, whose derivative along a direction this is.
    direction, step = normal(*W.shape, seed=3, dtype="float64"), 1e-6

    def loss_at(kernel):
        plain.kernel.assign(kernel / np.linalg.svd(as_matrix(kernel), compute_uv=False)[0])
        return np.sin(numpy(plain(inputs))).sum()

    numeric = (loss_at(W + step * direction) - loss_at(W - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(got * direction), numeric, rtol=1e-6)


@tensorflow_only
@pytest.mark.parametrize("compiled", [None, False, True], ids=["eager", "graph", "xla"])
def test_two_calls_in_a_step(compiled):
    import tensorflow as tf

    wrapped = SpectralNormalization(layers.Dense(4, use_bias=False), seed=1)
    wrapped.build((3, 5))
    W, u = (tf.constant(numpy(weight)) for weight in (wrapped.layer.kernel, wrapped.u))
    first, second = tf.constant(normal(3, 5)), tf.constant(normal(3, 5, seed=1))

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(wrapped(first, training=True)))
            loss += tf.reduce_sum(tf.cos(wrapped(second, training=True)))
        return loss, tape.gradient(loss, wrapped.trainable_variables[0])

    loss, gradient = (step if compiled is None else tf.function(step, jit_compile=compiled))()
    with tf.GradientTape() as tape:
        tape.watch(W)
        expected = 0.0
        for function, inputs in ((tf.sin, first), (tf.cos, second)):
            v = tf.linalg.normalize(tf.linalg.matvec(W, u))[0]
            u = tf.linalg.normalize(tf.linalg.matvec(W, v, transpose_a=True))[0]
            v, u = tf.stop_gradient(v), tf.stop_gradient(u)
            expected += tf.reduce_sum(function(inputs @ W / tf.reduce_sum(v * tf.linalg.matvec(W, u))))
    np.testing.assert_allclose(numpy(loss), numpy(expected), rtol=1e-5)
    np.testing.assert_allclose(numpy(gradient), numpy(tape.gradient(expected, W)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(wrapped.u), numpy(u), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_kernels_are_normalised_in_float32(policy):
    # The squares overflow float16, and bfloat16 has two digits of these weights.
    W = 1000 * normal(64, 32) + 30000
    inputs = normal(2, 64)
    reference = SpectralNormalization(layers.Dense(32, use_bias=False), 5, seed=1)
    mixed = SpectralNormalization(layers.Dense(32, use_bias=False), 5, seed=1, dtype=policy)
    for wrapped in (reference, mixed):
        wrapped.build(inputs.shape)
        wrapped.layer.kernel.assign(W)
    reference(inputs, training=True)
    # Called from within a layer and alone.
    x = keras.Input((64,))
    outputs = keras.Model(x, mixed(x))(inputs, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == mixed.compute_dtype
    np.testing.assert_allclose(numpy(mixed.u), numpy(reference.u), rtol=1e-6, atol=1e-7)
    mixed(inputs, training=True)
    reference(inputs, training=True)
    np.testing.assert_allclose(numpy(mixed.u), numpy(reference.u), rtol=1e-6, atol=1e-7)
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    expected = numpy(reference(inputs))
    got = numpy(keras.ops.cast(mixed(inputs), "float32"))
    np.testing.assert_allclose(got, expected, atol=0.02 * np.abs(expected).max())


def test_a_kernel_of_zeros_gives_zeros():
    wrapped = SpectralNormalization(layers.Dense(4, kernel_initializer="zeros"))
    np.testing.assert_array_equal(numpy(wrapped(normal(3, 5), training=True)), np.zeros((3, 4)))


def test_embeddings_masks_and_regularizers():
    tokens = np.array([[1, 2, 0]])
    wrapped = converged(layers.Embedding(7, 4, mask_zero=True), tokens)
    W = numpy(wrapped.layer.embeddings)
    expected = W[tokens] / np.linalg.svd(W, compute_uv=False)[0]
    np.testing.assert_allclose(numpy(wrapped(tokens)), expected, rtol=1e-4)
    np.testing.assert_array_equal(numpy(wrapped.compute_mask(tokens, None)), tokens != 0)
    dense = SpectralNormalization(layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l2"))
    dense(normal(3, 5))
    assert len(dense.losses) == 2


@pytest.mark.parametrize("name", ["dense", "conv", "transposed", "einsum"])
def test_equalized_learning_rate(name):
    make, shape, as_matrix = CASES[name]
    wrapped = EqualizedLearningRate(make(), gain=1.5, learning_rate_multiplier=0.1)
    wrapped.build(shape)
    W, bias = numpy(wrapped.layer.kernel), normal(*wrapped.layer.bias.shape, seed=2)
    wrapped.layer.bias.assign(bias)
    plain = make()
    plain.build(shape)
    plain.set_weights([W * 0.1 * 1.5 / np.sqrt(as_matrix(W).shape[0]), 0.1 * bias])
    np.testing.assert_allclose(numpy(wrapped(normal(*shape))), numpy(plain(normal(*shape))), rtol=1e-4, atol=1e-5)


def test_equalized_initial_values():
    wrapped = EqualizedLearningRate(layers.Dense(300), gain=1.0, learning_rate_multiplier=0.01)
    outputs = numpy(wrapped(normal(200, 400)))
    np.testing.assert_allclose(numpy(wrapped.layer.kernel).std(), 100.0, rtol=0.02)
    np.testing.assert_allclose(outputs.std(), 1.0, rtol=0.05)
    chosen = EqualizedLearningRate(layers.Dense(3, kernel_initializer="ones"))
    chosen.build((2, 5))
    np.testing.assert_array_equal(numpy(chosen.layer.kernel), np.ones((5, 3)))


@pytest.mark.parametrize("wrapper", [SpectralNormalization, EqualizedLearningRate])
def test_copies_in_a_loaded_polynomial_stay_apart(wrapper, tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, NCP(None, 3, operator=wrapper(layers.Dense(4, use_bias=False)))(inputs))
    kernels = [numpy(weight) for weight in model.weights if weight.path.endswith("kernel")]
    assert len(kernels) == 5 and len({kernel.tobytes() for kernel in kernels}) == 5
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(again(normal(2, 4))), numpy(model(normal(2, 4))))


@pytest.mark.parametrize("wrapper", [SpectralNormalization, EqualizedLearningRate])
def test_a_built_layer_and_a_policy(wrapper):
    dense = layers.Dense(4, dtype="mixed_bfloat16")
    dense.build((None, 5))
    assert wrapper(dense).compute_dtype == "bfloat16"
    assert wrapper(layers.Dense(4), dtype="mixed_float16").layer.compute_dtype == "float16"


def lora():
    dense = layers.Dense(4)
    dense.build((None, 5))
    dense.enable_lora(2)
    return dense


ERRORS = {
    "no layer": (
        lambda: SpectralNormalization("dense"),
        "`layer` must be a Keras layer",
        "layer='dense' of type str",
        "such as Dense(64)",
    ),
    "iterations": (
        lambda: SpectralNormalization(layers.Dense(4), 0),
        "`power_iterations` must be a positive integer",
        "power_iterations=0",
        "Pass power_iterations=1",
    ),
    "no kernel": (
        lambda: SpectralNormalization(layers.ReLU()).build((None, 5)),
        "one stored `kernel` or `embeddings`",
        "of type ReLU, which has none",
        "Pass a layer such as Dense",
    ),
    "two kernels": (
        lambda: SpectralNormalization(layers.SeparableConv2D(4, 3)).build((None, 6, 6, 3)),
        "one stored `kernel`",
        "of type SeparableConv2D",
        "Pass a layer such as Dense",
    ),
    "lora": (
        lambda: SpectralNormalization(lora()).build((None, 5)),
        "one stored `kernel`",
        "made of several weights (LoRA)",
        "Pass a layer such as Dense",
    ),
    "no layer, equalised": (
        lambda: EqualizedLearningRate("dense"),
        "`layer` must be a Keras layer",
        "layer='dense' of type str",
        "such as Dense(64)",
    ),
    "no kernel, equalised": (
        lambda: EqualizedLearningRate(layers.ReLU()),
        "takes layers with a `kernel`",
        "of type ReLU",
        "Pass a layer such as Dense",
    ),
    "gain": (
        lambda: EqualizedLearningRate(layers.Dense(4), gain=0),
        "`gain` must be a positive number",
        "gain=0",
        "Pass gain=1.0",
    ),
    "multiplier": (
        lambda: EqualizedLearningRate(layers.Dense(4), learning_rate_multiplier="slow"),
        "`learning_rate_multiplier` must be a positive number",
        "learning_rate_multiplier='slow'",
        "Pass learning_rate_multiplier=1.0",
    ),
    "no initializer": (
        lambda: EqualizedLearningRate(layers.DepthwiseConv2D(3)),
        "a `kernel_initializer`",
        "of type DepthwiseConv2D",
        "Pass a layer such as Dense",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_says_rule_received_remedy(case):
    function, *parts = ERRORS[case]
    with pytest.raises(ValueError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_quantised_kernels_are_the_effective_ones():
    inputs = normal(8, 32)
    x = keras.Input((32,))
    dense = EqualizedLearningRate(layers.Dense(16), learning_rate_multiplier=0.01)
    model = keras.Model(x, SpectralNormalization(layers.Dense(8))(dense(x)))
    before = numpy(model(inputs))
    with pytest.raises(NotImplementedError, match=r"'int8' or 'int4' alone. Received: mode='float8'.*`filters`"):
        dense.layer.quantize("float8")
    np.testing.assert_array_equal(numpy(model(inputs)), before)
    model.quantize("int8")
    assert dense.layer.quantization_mode == "int8"
    after = numpy(model(inputs))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
