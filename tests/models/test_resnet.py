"""Residual networks: sizes, shapes, and numbers that stay finite."""

import keras
import numpy as np
import pytest

from pinets_tf.models import resnet


def test_parameters_of_the_baseline():
    network = resnet((32, 32, 3), 10, order=1, activation="relu")
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == 11_173_962
    assert resnet((32, 32, 3), 100, order=1).count_params() - network.count_params() == 90 * 513


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_an_order_adds_only_its_normalisations_and_gates(order):
    options = {"stage_blocks": (1, 1), "width": 8}
    plain = resnet((16, 16, 1), 10, order=1, **options).count_params()
    added = (order - 1) * (4 * 8 + 4 * 16 + 2)
    assert resnet((16, 16, 1), 10, order=order, **options).count_params() == plain + added


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_finite_after_the_first_steps_evaluated(order, activation):
    network = resnet((16, 16, 1), 10, stage_blocks=(1, 1, 1), width=8, order=order, activation=activation)
    network.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(128, 16, 16, 1)).astype("float32"), rng.integers(0, 10, 128)
    network.fit(x, y, batch_size=32, epochs=3, verbose=0)
    assert np.isfinite(network.evaluate(x, y, verbose=0))


def test_any_size_and_raw_pixels():
    preprocessing = keras.layers.Normalization(mean=[127.0], variance=[4000.0])
    network = resnet((None, None, 1), 7, stage_blocks=(1, 1), width=4, preprocessing=preprocessing)
    assert network.output_shape == (None, 7)
    for size in (8, 13):
        assert network(np.full((2, size, size, 1), 200.0, "float32")).shape == (2, 7)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_under_every_policy(policy):
    keras.config.set_dtype_policy(policy)
    network = resnet((8, 8, 1), 3, stage_blocks=(1,), width=4)
    assert keras.backend.standardize_dtype(network(np.ones((1, 8, 8, 1), "float32")).dtype) == "float32"


def test_saved_and_loaded(tmp_path):
    network = resnet((8, 8, 3), 3, stage_blocks=(1, 1), width=4, order=3)
    network.save(tmp_path / "network.keras")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    again = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(model(x)) for model in (network, again)))


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        (((8, 8, 3), 0), {}, ("`classes` must be a positive integer", "classes=0", "Pass the number of classes")),
        (((8, 8, 3), 3), {"width": 0}, ("`width` must be", "width=0", "Pass the channels")),
        (((8, 8, 3), 3), {"stage_blocks": (1, 0)}, ("`stage_blocks` must be", "stage_blocks=0", "Pass the number")),
        (((8, 8, 3), 3), {"order": 0}, ("`order` must be a positive integer", "order=0", "Pass order=1")),
        (((28, 28), 3), {}, ("must be (height, width, channels)", "input_shape=(28, 28)", "add the channels")),
    ],
)
def test_errors(arguments, options, words):
    with pytest.raises(ValueError) as caught:
        resnet(*arguments, **options)
    for word in words:
        assert word in str(caught.value)
