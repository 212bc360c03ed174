"""A layer can be made again from its config, by JSON, by class and by `clone_model`."""

import json

import keras
import numpy as np

from tests.conformance.cases import (
    CHOSEN,
    computing_layers,
    every_layer,
    every_layer_in_the_long_run,
    functional,
    numpy,
    tensorflow_only,
)

pytestmark = tensorflow_only  # A config is that of every backend.


@every_layer
def test_config_round_trip(case):
    layer = case.make()
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert json.dumps(again.get_config(), sort_keys=True) == json.dumps(config, sort_keys=True)
    assert dir(again) == dir(layer)


@every_layer
def test_json_round_trip_under_the_package_name(case):
    layer = case.make()
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert serialized["registered_name"] == f"{'extension' if CHOSEN else 'pinets_tf'}>{case.cls.__name__}"
    again = keras.saving.deserialize_keras_object(serialized)
    assert type(again) is case.cls
    assert again.get_config() == layer.get_config()


@every_layer_in_the_long_run
def test_config_keeps_the_policies_inside(case):
    for policy in ("mixed_bfloat16", "float64"):
        layer = case.make(dtype=policy)
        again = type(layer).from_config(layer.get_config())
        layer.build(case.input_shape)
        again.build(case.input_shape)
        policies = [inner.dtype_policy.name for inner in computing_layers(layer)]
        assert [inner.dtype_policy.name for inner in computing_layers(again)] == policies


@every_layer_in_the_long_run
def test_clone_model(case):
    model = functional(case)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy(clone(case.batch())), numpy(model(case.batch())))


@every_layer_in_the_long_run
def test_weight_names_are_distinct_and_stable(case):
    first, second = case.make(name="layer"), case.make(name="layer")
    for layer in (first, second):
        layer.build(case.input_shape)
    paths = [weight.path for weight in first.weights]
    assert len(set(paths)) == len(paths)
    assert [path.rsplit("/", 1)[1] for path in paths] == [weight.path.rsplit("/", 1)[1] for weight in second.weights]
