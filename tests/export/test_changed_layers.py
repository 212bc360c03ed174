"""Models whose layers were changed after they were made: an export answers as they do, or is refused in words."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf.export import convert, export_saved_model, load_model
from pinets_tf.export.runtime import answers
from pinets_tf.layers import NCP


def redrawn(layer):
    """Gives a layer weights other than those that it starts with, so that no map is left out unseen."""
    random = np.random.default_rng(0)
    layer.set_weights([random.uniform(0.3, 0.9, weight.shape).astype(weight.dtype) for weight in layer.get_weights()])


def network(normalize=None, dtype=None):
    """A polynomial between two linear maps."""
    z = keras.Input((6,))
    x = NCP(8, order=2, rank=4, normalize=normalize, dtype=dtype)(keras.layers.Dense(6, dtype=dtype)(z))
    model = keras.Model(z, keras.layers.Dense(3, dtype="float32")(x))
    redrawn(model)
    return model


def lora(where, **options):
    model = network(**options)
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.Dense and (layer in model.layers) in where:
            layer.enable_lora(2)
            redrawn(layer)
    return model


def quantized(mode, normalize=None):
    model = network(normalize)
    model.quantize(mode)
    return model


def frozen():
    model = network("batch")
    model.trainable = False
    return model


def tied():
    """The same polynomial with the same linear map twice, and a model in a model twice."""
    z = keras.Input((6,))
    linear, polynomial = keras.layers.Dense(6), NCP(6, order=2, rank=4, normalize="batch")
    inner = keras.Sequential([keras.Input((6,)), NCP(6, order=2, rank=4, normalize="batch")])
    x = polynomial(linear(polynomial(linear(z))))
    model = keras.Model(z, inner(inner(x)))
    redrawn(model)
    return model


CHANGED = {
    "lora": lambda: lora([True, False], normalize="batch"),
    "int8": lambda: quantized("int8", "batch"),
    "frozen": frozen,
    "tied": tied,
}
OTHERS = {
    "lora beside a polynomial": lambda: lora([True]),
    "lora in a polynomial": lambda: lora([False]),
    "lora in half precision": lambda: lora([True, False], dtype="mixed_float16"),
    "int8, nothing folded": lambda: quantized("int8"),
    "int4": lambda: quantized("int4"),
    "float8": lambda: quantized("float8"),
}
IN_WORDS = re.compile(r"[A-Z].*\. Received: .+\. [A-Z].*", re.DOTALL)


@pytest.mark.filterwarnings("ignore:.*computes in half precision")
@pytest.mark.parametrize("loaded", [False, pytest.param(True, marks=pytest.mark.long)], ids=["made", "loaded"])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[pytest.mark.long] * (name in OTHERS))
        for name, make in (CHANGED | OTHERS).items()
    ],
)
def test_the_same_answers_or_words(make, loaded, tmp_path):
    model = make()
    if loaded:
        model.save(tmp_path / "model.keras")
        model = load_model(tmp_path / "model.keras")
    inputs = np.random.default_rng(1).uniform(0.1, 1, (5, 6)).astype("float32")
    expected = model(inputs).numpy()
    close = 2e-2 if model.layers[1].compute_dtype == "float16" else 1e-4
    try:
        version = export_saved_model(model, tmp_path, "model")
        served = tf.saved_model.load(version).signatures["serving_default"](tf.constant(inputs))["outputs"]
        np.testing.assert_allclose(served, expected, rtol=close)
        np.testing.assert_allclose(answers(convert(version), inputs), expected, rtol=close)
    except ValueError as error:
        assert IN_WORDS.fullmatch(str(error)), error
        assert make is not frozen and make is not tied
    np.testing.assert_array_equal(model(inputs), expected)
