"""A training step on two replicas gives the weights of a step on one."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import (
    CASES,
    functional,
    one_of_each_layer,
    randomise,
    sharing_variants_in_the_long_run,
    tensorflow_only,
)

pytestmark = tensorflow_only


def two_steps(case, strategy, xla, freeze, batch):
    import tensorflow as tf

    from pinets_tf.training import ReplicaModel

    with strategy.scope():
        layer = functional(case)
        # A readout, since a frozen layer alone has nothing to learn.
        inputs = layer.inputs if isinstance(case.shape, list) else layer.inputs[0]
        network = keras.Model(inputs, keras.layers.Dense(2)(layer.outputs[0]))
        randomise(network)
        for inner in network._flatten_layers():
            if freeze and isinstance(inner, keras.layers.BatchNormalization):
                inner.trainable = False
        model = ReplicaModel(network, xla=xla)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    targets = np.ones(network(batch).shape, "float32")
    inputs = tuple(batch) if isinstance(batch, list) else batch
    batches = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(len(targets)).repeat(2)
    model.fit(batches, shuffle=False, verbose=0)
    return [keras.ops.convert_to_numpy(weight) for weight in network.weights]


def assert_replicas_agree(*arguments):
    import tensorflow as tf

    from pinets_tf.training import set_up

    case, xla, *more = arguments
    one = two_steps(case, tf.distribute.get_strategy(), xla, *more)
    two = two_steps(case, set_up("mirrored"), xla, *more)
    for expected, value in zip(one, two):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(expected).max()))


with_and_without_xla = pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])


@sharing_variants_in_the_long_run
def test_two_replicas_equal_one(case):
    # Each replica has the statistics of its own half of the batch, which are left out of this comparison.
    assert_replicas_agree(case, False, True, case.batch(4))


@one_of_each_layer
def test_two_replicas_equal_one_with_xla(case):
    assert_replicas_agree(case, True, True, case.batch(4))


@with_and_without_xla
@pytest.mark.parametrize("name", ["BatchNormalization", "PolynomialResidual", "PolynomialResidual-gate-batch"])
def test_two_replicas_equal_one_with_statistics(name, xla):
    # Both halves of the batch are the same, and so are their statistics and those of the whole.
    case = CASES[name]
    assert_replicas_agree(case, xla, False, np.concatenate([case.batch(2)] * 2))
