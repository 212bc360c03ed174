"""Precision policies: the outputs', the weights', and those of every layer inside."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import (
    ALL,
    EVERY_LAYER,
    batches_of,
    beside_each_other,
    computing_layers,
    every_layer_in_the_long_run,
    first_elsewhere,
    functional,
    numpy,
)

POLICIES = ("mixed_float16", "mixed_bfloat16", "bfloat16", "float64")


@pytest.mark.parametrize("policy", first_elsewhere(POLICIES))
@every_layer_in_the_long_run
def test_policy_reaches_every_layer(case, policy):
    layer = case.make(dtype=policy)
    x = layer(case.batch())
    expected = keras.dtype_policies.get(policy)
    assert keras.backend.standardize_dtype(x.dtype) == expected.compute_dtype
    for inner in computing_layers(layer):
        assert (inner.compute_dtype, inner.variable_dtype) == (expected.compute_dtype, expected.variable_dtype), inner
    for weight in layer.weights:
        assert keras.backend.standardize_dtype(weight.dtype) in (expected.variable_dtype, "uint32", "int64", "int32"), (
            weight.path
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_layer_in_the_long_run
def test_global_policy_gives_nearly_the_same_numbers(case, policy):
    reference = functional(case)
    keras.config.set_dtype_policy(policy)
    mixed = functional(case)
    mixed.set_weights(reference.get_weights())
    expected = numpy(reference(case.batch()))
    error = np.abs(numpy(mixed(case.batch())).astype("float32") - expected).max()
    assert error <= 0.05 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("cases", [EVERY_LAYER, pytest.param(ALL, marks=pytest.mark.long)], ids=len)
def test_trains_under_mixed_float16(cases):
    keras.config.set_dtype_policy("mixed_float16")
    layers = beside_each_other(cases)
    heads = [keras.layers.Dense(1, dtype="float32")(keras.layers.Flatten()(output)) for output in layers.outputs]
    model = keras.Model(layers.inputs, heads)
    model.compile("sgd", "mse")
    history = model.fit(batches_of(cases, 8), [np.ones(8)] * len(cases), batch_size=4, verbose=0).history
    assert len(history) == 1 + len(cases)
    for name, losses in history.items():
        assert np.isfinite(losses).all(), name
