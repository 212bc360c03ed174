"""Networks of users that become polynomial and compute what they computed."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import convert, degree
from pinets_tf.models import resnet
from tests.conformance.cases import numpy, randomise, tensorflow_only
from tests.polynomial_degree import assert_polynomial_degree, normalises_in_float64


def gates(model):
    return [weight for weight in model.weights if weight.path.rpartition("/")[2].startswith("gate")]


@pytest.fixture(scope="module")
def resnet50():
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)
    return (model, *convert(model))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")


@tensorflow_only
def test_resnet50_predicts_what_it_predicted(resnet50, images):
    model, converted, report = resnet50
    np.testing.assert_allclose(numpy(converted(images)), numpy(model(images)), atol=1e-6)
    assert len(report.blocks) == len(gates(converted)) == 16
    assert not report.unrecognised and not report.activations and not report.plain
    assert report.obstacles["pool1_pool"] == "MaxPooling2D" and report.obstacles["predictions"] == "Dense softmax"
    assert "Residual blocks of order 2: 16, conv2_block1_add, conv2_block2_add, " in str(report)
    assert "No polynomial because of Activation relu: 49, conv1_relu, " in str(report)
    assert {layer.name for layer in model.layers} < {layer.name for layer in converted.layers}
    assert not {id(weight) for weight in converted.weights} & {id(weight) for weight in model.weights}


@tensorflow_only
def test_resnet50_trains_and_is_saved(resnet50, images, tmp_path):
    _, converted, _ = resnet50
    converted.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", run_eagerly=True)
    loss = converted.train_on_batch(images, np.array([1, 3]))
    assert np.isfinite(loss) and all(numpy(gate) != 0 for gate in gates(converted))
    converted.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(numpy(loaded(images)), numpy(converted(images)), rtol=1e-5, atol=1e-6)


@tensorflow_only
def test_resnet50_v2(images):
    model = keras.applications.ResNet50V2(weights=None, input_shape=(32, 32, 3), classes=5)
    converted, report = convert(model, remove_activations=True)
    assert len(report.blocks) == 16 and not report.unrecognised
    # Of the activations the one at the output stays.
    assert len(report.activations) == 49
    assert set(report.obstacles.values()) == {"MaxPooling2D", "Dense softmax"}
    assert converted(images).shape == (2, 5)


def dense_block(**options):
    z = keras.Input((3,), **options)
    dense = keras.layers.Dense(3, name="dense", **options)
    return keras.Model(z, keras.layers.Add(name="block", **options)([dense(z), z]))


def test_block_computes_the_recursion():
    model = dense_block()
    randomise(model)
    converted, _ = convert(model, order=3, normalize=None)
    g_2, g_3 = gates(converted)
    g_2.assign(2.0)
    g_3.assign(-0.5)
    z = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    kernel, bias = map(numpy, model.get_layer("dense").weights)
    b = z @ kernel + bias
    expected = z + b - 0.5 * z * (b + 2 * z * b)
    np.testing.assert_allclose(numpy(converted(z)), expected, rtol=1e-5, atol=1e-5)


def residual_network():
    """Returns a network with a nested stem, both kinds of shortcuts, a plus sign and activations of every kind."""
    z = keras.Input((8, 8, 2))
    stem = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.PReLU()], name="stem"
    )
    x = stem(z)
    h = keras.layers.ReLU()(keras.layers.Conv2D(4, 3, padding="same")(x))
    x = keras.layers.Conv2D(4, 3, padding="same", name="second")(h) + x
    h = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3, strides=2, padding="same")(x))
    h = keras.layers.Conv2D(6, 3, padding="same")(keras.layers.Activation("tanh")(h))
    x = keras.layers.Add(name="block")([keras.layers.Conv2D(6, 1, strides=2, name="shortcut")(x), h])
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.LeakyReLU()(x))
    return keras.Model(z, keras.layers.Dense(3, activation="sigmoid", name="scores")(x))


@normalises_in_float64
def test_without_activations_a_network_is_a_polynomial():
    keras.config.set_dtype_policy("float64")
    # `keras.Input` rounds to floatx under every policy.
    keras.config.set_floatx("float64")
    try:
        model = residual_network()
        converted, report = convert(model, order=2, remove_activations=True)
    finally:
        keras.config.set_floatx("float32")
    assert len(report.blocks) == 2 and report.blocks[1] == "block" and len(report.activations) == 5
    assert report.obstacles == {"scores": "Dense sigmoid"}
    scores = keras.Model(converted.input, converted.layers[-2].output)
    randomise(scores)
    assert degree(scores) == 4
    assert_polynomial_degree(scores, (8, 8, 2), 4)


@tensorflow_only
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_trains_in_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = residual_network()
    z = np.random.default_rng(0).normal(size=(4, 8, 8, 2)).astype("float32")
    converted, _ = convert(model)
    np.testing.assert_array_equal(numpy(converted(z)), numpy(model(z)))
    converted.compile("sgd", "mse", run_eagerly=True)
    assert np.isfinite(converted.train_on_batch(z, np.ones((4, 3))))
    assert all(gate.dtype == "float32" and numpy(gate) != 0 for gate in gates(converted))


@tensorflow_only
def test_every_kind_of_sum_and_activation_is_copied():
    model = residual_network()
    randomise(model)
    z = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype("float32")
    for order in (2, 4):
        converted, report = convert(model, order=order)
        np.testing.assert_allclose(numpy(converted(z)), numpy(model(z)), rtol=1e-6, atol=1e-6)
        assert len(gates(converted)) == 2 * (order - 1) and not report.activations


def test_plain_network():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, activation="relu", name="first"),
            keras.layers.Dense(3, name="linear"),
            keras.layers.Activation("tanh", name="second"),
            keras.layers.Dense(2, activation="softmax", name="last"),
        ]
    )
    randomise(model)
    z = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    converted, report = convert(model, normalize=None)
    np.testing.assert_allclose(numpy(converted(z)), numpy(model(z)), rtol=1e-6)
    assert report.plain == ("first", "second") and not report.blocks
    gates(converted)[0].assign(2.0)
    kernel, bias = map(numpy, model.get_layer("first").weights)
    h = z @ kernel + bias
    hidden = keras.Model(converted.input, converted.get_layer("first_activation").output)
    np.testing.assert_allclose(numpy(hidden(z)), np.maximum(h + 2 * h * h, 0), rtol=1e-5, atol=1e-6)
    linear, report = convert(model, order=3, remove_activations=True)
    assert report.activations == report.plain and report.obstacles == {"last": "Dense softmax"}
    assert degree(keras.Model(linear.input, linear.layers[-2].output)) == 9


@tensorflow_only
def test_raises_polynomial_residuals():
    model = resnet((8, 8, 1), 3, stage_blocks=(1, 1), order=1, width=4)
    randomise(model)
    z = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    converted, report = convert(model, order=3)
    np.testing.assert_allclose(numpy(converted(z)), numpy(model(z)), rtol=1e-5, atol=1e-6)
    assert report.blocks == ("stage_1_block_1", "stage_2_block_1") and degree(converted) == 9
    assert str(report).endswith("A polynomial")


def test_adapted_normalisations_are_copied():
    z = np.random.default_rng(0).normal(5, 3, (20, 3)).astype("float32")
    normalization = keras.layers.Normalization()
    normalization.adapt(z)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, dense_block()(normalization(inputs)))
    np.testing.assert_allclose(numpy(convert(model)[0](z)), numpy(model(z)), rtol=1e-5)


def test_names_the_sums_that_are_no_residual_blocks():
    a, b = keras.Input((3,)), keras.Input((3,))
    one, other = keras.layers.Dense(3)(a), keras.layers.Dense(3)(a)
    add = keras.layers.Add
    sums = [add(name="three")([a, one, other]), add(name="tie")([one, other]), add(name="inputs")([a, b])]
    wide = add(name="wide")([one, keras.layers.Dense(1)(a)])
    model = keras.Model([a, b], [*sums, wide, a + 1.0, add(name="block")([a, one])])
    converted, report = convert(model)
    assert report.blocks == ("block",)
    assert report.unrecognised == {
        "three": "of 3 terms",
        "tie": "of two ways of one length",
        "inputs": "of terms that come from different inputs",
        "wide": "of terms of different shapes",
    }
    assert "Sums left as they were: 4, " in str(report) and "tie (of two ways of one length)" in str(report)
    assert len(converted.outputs) == 6


@keras.saving.register_keras_serializable(package="tests")
class Closed(keras.layers.Layer):
    def __init__(self, secret):
        super().__init__(name="closed")
        self.secret = secret

    def call(self, x):
        return x


def test_says_what_cannot_be_converted():
    with pytest.raises(ValueError, match=r"`order` must be a positive integer\. Received: order=1\.5\. Pass order=2"):
        convert(dense_block(), order=1.5)
    with pytest.raises(ValueError, match=r"order 1 has no products\. Received: order=1\. Pass order=2 or more"):
        convert(dense_block(), order=1)
    with pytest.raises(ValueError, match=r"the graph of a model\. Received: <Dense.*\. Pass a built functional"):
        convert(keras.layers.Dense(3))
    linear = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)], name="linear")
    with pytest.raises(ValueError, match=r"hidden activations\. Received: the model linear, which has neither\. Build"):
        convert(linear)
    closed = keras.Sequential([keras.Input((3,)), dense_block(), Closed(3)])
    with pytest.raises(ValueError, match=r"by their configs\. Received: the layer closed of type Closed.* Give it"):
        convert(closed)
