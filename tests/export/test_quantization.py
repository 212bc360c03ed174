"""Eight-bit TFLite models of products with heavy tails."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf.export import convert, equalize, export_saved_model, quantization
from pinets_tf.export.quantization import quantize_int8
from pinets_tf.export.runtime import NotRunError, agreement, all_tensors, answers
from pinets_tf.layers import CCP


def converted(model, folder):
    model.export(folder, verbose=False)
    return tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"]).convert()


@pytest.fixture(scope="module")
def polynomial(tmp_path_factory):
    """A classifier of order 6, and inputs of different norms, so that its scores have heavy tails."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), CCP(4, order=6, rank=64)])
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1200, 16)) * np.exp(0.2 * random.normal(size=(1200, 1)))
    return converted(model, tmp_path_factory.mktemp("model")), inputs.astype("float32")


def test_products_with_heavy_tails_keep_their_answers(polynomial, monkeypatch):
    model, inputs = polynomial
    got = quantize_int8(model, inputs[:600], inputs[600:])
    assert got.agreement >= 0.99 and len(got.content) < 0.6 * len(model)
    # Six products and sums apart, the maps are in eight bits.
    assert got.operators == 17 and 0 < len(got.float_operators) <= 10
    assert f"{17 - len(got.float_operators)} of 17 operators in eight bits" in str(got)
    expected, received = (answers(content, inputs[600:]).argmax(-1) for content in (model, got.content))
    assert np.mean(expected == received) == got.agreement
    # Without these means it is another classifier.
    whole = quantize_int8(model, inputs[:600], inputs[600:], float_operators=False)
    assert whole.float_operators == () and whole.agreement < 0.95
    monkeypatch.setattr(quantization, "PERCENTILES", (100.0,))
    assert quantize_int8(model, inputs[:600], inputs[600:], float_operators=False).agreement < 0.9


def test_what_comes_before_a_logarithm_stays_in_float(tmp_path):
    keras.utils.set_random_seed(0)
    samples = keras.Input((32,))
    energies = keras.layers.Dense(64, use_bias=False, kernel_initializer="uniform")(keras.ops.square(samples))
    x = keras.ops.log(keras.ops.square(energies) + 1e-9)
    model = keras.Model(samples, keras.layers.Dense(5)(keras.layers.Dense(64)(x)))
    version = export_saved_model(model, tmp_path, "spectrum")
    # Quiet and loud parts, six powers of ten apart.
    inputs = np.random.default_rng(0).normal(size=(400, 32)) * 10 ** np.linspace(-3, 3, 32)
    inputs = inputs.astype("float32")
    exact, dynamic = convert(version), convert(version, "dynamic_int8")
    assert len(dynamic) < 0.9 * len(exact)
    assert agreement(answers(exact, inputs), answers(dynamic, inputs)) > 0.98
    got = quantize_int8(exact, inputs[::2], inputs[1::2], agreement=0.98)
    assert got.before_logarithms >= 4 and got.agreement >= 0.98
    assert f"{got.before_logarithms} before a logarithm in float" in str(got)


def test_shapes_agree_by_their_deviation_from_the_mean():
    shapes = 100 + np.random.default_rng(0).normal(size=(6, 5, 3))
    assert agreement(shapes, np.broadcast_to(shapes.mean(0), shapes.shape)) == 0
    assert agreement(shapes, shapes + 0.05) == agreement(shapes[:1], shapes[:1] + 0.05) == 1


def test_the_loss_of_eight_bits(polynomial):
    model, inputs = polynomial
    ranges = quantization._FloatModel(model).ranges(inputs[:100])
    for name, values in all_tensors(model, inputs[:100]):
        found = ranges[name]
        low, high = min(values.min(), 0), max(values.max(), 0)
        assert found.by_percentile[100.0] == pytest.approx((low, high))
        step = (high - low) / 255
        lost = np.sqrt(np.mean((np.round(values / step) * step - values) ** 2))
        # The formula is that of values spread evenly within a step.
        assert found.loss == pytest.approx(lost / values.std(), rel=0.2, abs=1e-3)


def test_channels_are_rescaled_without_changing_the_function(tmp_path):
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 3))
    spread = keras.initializers.RandomNormal(stddev=1.0)

    def convolution(filters, x):
        x = keras.layers.Conv2D(filters, 3, padding="same", bias_initializer=spread)(x)
        # Channels of very different sizes, whose scale is a constant of its own behind a product.
        return keras.layers.Rescaling(np.exp2(np.arange(filters) - 3.0), offset=0.5)(x * x)

    x = convolution(6, images)
    x = convolution(6, x) + x
    x = keras.layers.DepthwiseConv2D(3)(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(x * x + keras.layers.Conv2D(6, 3)(images))
    model = converted(keras.Model(images, keras.layers.Dense(5, bias_initializer=spread)(x)), tmp_path)
    inputs = np.random.default_rng(0).normal(size=(20, 4, 4, 3)).astype("float32")
    equal = equalize(model, inputs)
    expected = answers(model, inputs)
    np.testing.assert_allclose(answers(equal, inputs), expected, atol=1e-5 * np.abs(expected).max())
    assert len(equal) < 1.2 * len(model)

    def spread_of(content):
        tensors = {
            name: np.abs(values).max((0, 1, 2)) for name, values in all_tensors(content, inputs) if values.ndim == 4
        }
        return {name: np.log2(most.max() / most.min()) for name, most in tensors.items() if len(most) == 6}

    before, after = spread_of(model), spread_of(equal)
    assert np.mean(list(after.values())) < 0.5 * np.mean([before[name] for name in after])


def test_maps_of_pixels(tmp_path):
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 2))
    x = keras.layers.Conv2D(3, 3, padding="same")(images)
    model = converted(keras.Model(images, x * keras.layers.Conv2D(3, 1)(images)), tmp_path)
    inputs = np.random.default_rng(0).normal(size=(60, 4, 4, 2)).astype("float32")
    got = quantize_int8(model, inputs[:30], inputs[30:])
    expected, received = (answers(content, inputs[30:]) for content in (model, got.content))
    assert got.agreement == 1 and got.operators == 3
    assert np.linalg.norm(expected - received) < 0.05 * np.linalg.norm(expected)


def test_transposed_convolutions(tmp_path):
    # The runtime keeps tensors without names for them, of other shapes for each.
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2DTranspose(filters, 3, strides=2, padding="same") for filters in (4, 6, 3)]
    model = converted(keras.Sequential([keras.Input((4, 4, 2)), *layers]), tmp_path)
    inputs = np.random.default_rng(0).normal(size=(40, 4, 4, 2)).astype("float32")
    assert all(name for name, _ in all_tensors(model, inputs[:16]))
    assert quantize_int8(model, inputs[::2], inputs[1::2], agreement=0.9).agreement >= 0.9


def test_inputs_on_which_a_model_fails(polynomial):
    words = r"of its shape and type. Received: float32 of shape \(3, 17\), on which LiteRT failed \(.* Pass inputs"
    with pytest.raises(NotRunError, match=words):
        answers(polynomial[0], np.zeros((3, 17), "float32"))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"calibration": np.zeros((5, 3))}, r"of shape \('n', 16\)\. Received: shape \(5, 3\)\. Pass"),
        ({"held_out": np.full((5, 16), np.nan)}, r"`held_out` are at least two finite.*with values not finite\. Pass"),
        ({"held_out": np.zeros((1, 16))}, r"Received: shape \(1, 16\)"),
        ({"calibration": np.full((5, 16), 1e30)}, r"outputs of the float model are finite\. Received: 20 that are not"),
        ({"agreement": 0}, r"greater than 0 and at most 1\. Received: agreement=0\. Pass for example 0\.99"),
        ({"model": b"nothing"}, r"content of a \.tflite file\. Received: what does not load .* Convert it again"),
    ],
)
def test_errors(polynomial, change, words):
    model, inputs = polynomial
    with pytest.raises(ValueError, match=words):
        quantize_int8(**{"model": model, "calibration": inputs[:10], "held_out": inputs[10:20], **change})


def test_packages_that_are_missing(polynomial, monkeypatch):
    model, inputs = polynomial
    monkeypatch.setitem(sys.modules, "litert_quantizer", None)
    for function in (lambda: equalize(model, inputs), lambda: quantize_int8(model, inputs, inputs)):
        with pytest.raises(ImportError, match=r"package litert-quantizer\. Received: .*pinets_tf\[int8\]"):
            function()
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"run with the package ai-edge-litert\. Received: .*pinets_tf\[tflite\]"):
        answers(model, inputs)


def test_a_quantised_model_is_not_quantised_again(polynomial):
    model, inputs = polynomial
    once = quantize_int8(model, inputs[:50], inputs[50:100], agreement=0.5).content
    with pytest.raises(ValueError, match=r"is quantised already.* Pass the float32 model"):
        quantize_int8(once, inputs[:50], inputs[50:100])
