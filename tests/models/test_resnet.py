"""Residual networks: sizes, shapes, and numbers that stay finite."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import degree, first_not_polynomial
from pinets_tf.models import resnet
from tests.conformance.cases import tensorflow_only


@tensorflow_only  # Numbers of parameters are those of every backend.
def test_parameters_of_the_baseline():
    network = resnet((32, 32, 3), 10, order=1, activation="relu")
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == 11_173_962
    assert resnet((32, 32, 3), 100, order=1).count_params() - network.count_params() == 90 * 513


RELU = {"activation": "relu"}
IMAGENET = {**RELU, "stem": "7x7-max"}
RESNET_18 = {**IMAGENET, "stage_blocks": (2, 2, 2, 2)}
RESNET_50 = {**IMAGENET, "stage_blocks": (3, 4, 6, 3), "block": "bottleneck"}
SPEECH = {**RELU, "stage_blocks": (3, 3, 3, 2), "factor_convolution": "identity"}
SMALLER = {**RELU, "stage_blocks": (2, 2, 1, 1)}


# In millions, as the source prints them: the paper, its journal version, its release, or the standard network.
@tensorflow_only
@pytest.mark.parametrize(
    "shape, classes, options, millions",
    [
        ((32, 32, 1), 35, {**RELU, "stage_blocks": (3, 4, 6, 3), "order": 1}, "21.3"),  # Table 3
        ((32, 32, 1), 35, SPEECH, "13.2"),  # Table 3
        ((32, 32, 3), 10, {**SMALLER, "factor_convolution": "every", "product_convolution": True}, "6.0"),  # journal
        ((32, 32, 3), 10, SMALLER, "5.3"),  # its second order without convolutions
        ((224, 224, 3), 1000, {**RESNET_50, "order": 1}, "25.557"),  # torchvision and Keras
        ((224, 224, 3), 1000, {**RESNET_18, "order": 1}, "11.690"),  # torchvision
    ],
)
def test_parameters_are_those_of_the_source(shape, classes, options, millions):
    network = resnet(shape, classes, **options)
    parameters = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert f"{parameters / 1e6:.{len(millions.split('.')[1])}f}" == millions


@tensorflow_only
def test_size_of_the_polynomial_resnet50():
    plain, polynomial = (
        resnet((224, 224, 3), 1000, **RESNET_50, **options).count_params()
        for options in ({"order": 1}, {"order": 1, "pooled_rank": 2.5})
    )
    # Table 4, megabytes of float16.
    assert polynomial / plain == pytest.approx(68.81 / 50.26, rel=0.001)


@tensorflow_only
def test_pictures_of_224_pixels_shrink_to_7():
    network = resnet((224, 224, 3), 5, **RESNET_50, width=2, pooled_rank=2.5, normalize="tanh")
    assert network.get_layer("stage_1_block_1").output.shape[1:] == (56, 56, 8)
    assert network.get_layer("stage_4_block_3").output.shape[1:] == (7, 7, 64)


def test_only_the_average_stem_keeps_a_polynomial():
    options = {"stage_blocks": (1, 1), "width": 4, "order": 2}
    assert degree(resnet((32, 32, 3), 3, stem="7x7-average", **options)) == 4
    assert first_not_polynomial(resnet((32, 32, 3), 3, stem="7x7-max", **options)) == "stem_pool"


@pytest.mark.parametrize(
    "options",
    [
        {"product_convolution": True},
        {"product_convolution": True, "normalize": "tanh", "factor_convolution": "every"},
        {"product_convolution": True, "normalize": None, "factor_convolution": "identity"},
        {"block": "bottleneck", "pooled_rank": 2.5, "order": 1, "zero_residual": True},
    ],
)
def test_training_starts_at_the_plain_network(options):
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    shape = {"stage_blocks": (1, 2), "width": 4, "kernel_initializer": keras.initializers.HeNormal(seed=3)}
    network = resnet((16, 16, 3), 3, **shape, **options)
    plain = resnet(
        (16, 16, 3), 3, order=1, **shape, **{k: v for k, v in options.items() if k in ("block", "zero_residual")}
    )
    extra = ("normalize_", "factor", "gate", "pooled_product")
    shared = [weight for weight in network.weights if not any(word in weight.path for word in extra)]
    plain.set_weights([keras.ops.convert_to_numpy(weight) for weight in shared])
    outputs = [keras.ops.convert_to_numpy(model(x)) for model in (network, plain)]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)
    if options.get("zero_residual"):
        last = [
            w for w in network.weights if "stage_1_block_1/branch/batch_normalization" in w.path and "gamma" in w.path
        ]
        assert not keras.ops.convert_to_numpy(last[-1]).any()


def test_a_seeded_initializer_gives_every_convolution_values_of_its_own():
    initializer = keras.initializers.VarianceScaling(16.0, "fan_in", "untruncated_normal", seed=1)
    network = resnet((8, 8, 4), 3, stage_blocks=(2,), width=4, kernel_initializer=initializer, order=1)
    kernels = [keras.ops.convert_to_numpy(w) for w in network.weights if w.shape == (3, 3, 4, 4)]
    assert len(kernels) == 5 and len({kernel.tobytes() for kernel in kernels}) == 5
    assert np.std(kernels) == pytest.approx((16 / 36) ** 0.5, rel=0.1)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_an_order_adds_only_its_normalisations_and_gates(order):
    options = {"stage_blocks": (1, 1), "width": 8}
    plain = resnet((16, 16, 1), 10, order=1, **options).count_params()
    added = (order - 1) * (4 * 8 + 4 * 16 + 2)
    assert resnet((16, 16, 1), 10, order=order, **options).count_params() == plain + added


@pytest.mark.parametrize(
    "order, activation",
    [
        (2, None),
        *(
            pytest.param(*pair, marks=pytest.mark.long)
            for pair in [(1, None), (5, None), (1, "relu"), (2, "relu"), (5, "relu")]
        ),
    ],
)
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
        (((8, 8, 3), 3), {"block": "wide"}, ("`block` must be one of 'basic', 'bottleneck'", "block='wide'")),
        (((8, 8, 3), 3), {"stem": "5x5"}, ("`stem` must be one of '3x3'", "stem='5x5'")),
        (((8, 8, 3), 3), {"factor_convolution": "all"}, ("`factor_convolution` must be one of None", "'all'")),
        (((8, 8, 3), 3), {"pooled_rank": 0}, ("`pooled_rank` must be a positive number", "pooled_rank=0", "Pass a")),
        (
            ((8, 8, 3), 3),
            {"product_convolution": True, "normalize": "layer"},
            ("comes after tanh", "normalize='layer'", "Pass normalize='batch' or 'tanh'"),
        ),
        (((28, 28), 3), {}, ("must be (height, width, channels)", "input_shape=(28, 28)", "add the channels")),
    ],
)
def test_errors(arguments, options, words):
    with pytest.raises(ValueError) as caught:
        resnet(*arguments, **options)
    for word in words:
        assert word in str(caught.value)
