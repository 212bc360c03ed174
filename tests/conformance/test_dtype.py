"""Precision policies: the outputs', the weights', and those of every layer inside."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import (
    computing_layers,
    every_layer,
    every_layer_in_the_long_run,
    functional,
    numpy,
    with_head,
)

POLICIES = ("mixed_float16", "mixed_bfloat16", "bfloat16", "float64")


@pytest.mark.parametrize("policy", POLICIES)
@every_layer
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
@every_layer
def test_global_policy_gives_nearly_the_same_numbers(case, policy):
    reference = functional(case)
    keras.config.set_dtype_policy(policy)
    mixed = functional(case)
    mixed.set_weights(reference.get_weights())
    expected = numpy(reference(case.batch()))
    error = np.abs(numpy(mixed(case.batch())).astype("float32") - expected).max()
    assert error <= 0.05 * max(1.0, np.abs(expected).max())


@every_layer_in_the_long_run
def test_trains_under_mixed_float16(case):
    keras.config.set_dtype_policy("mixed_float16")
    head = [keras.layers.Flatten(), keras.layers.Dense(1, dtype="float32")]
    model = with_head(case.make(), case, head)
    model.compile("sgd", "mse")
    loss = model.fit(case.batch(8), np.ones(8), batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
