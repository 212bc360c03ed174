"""A training step on two replicas gives the weights of a step on one."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import (
    CASES,
    CHOSEN,
    EVERY_LAYER,
    SHARING_NAMES,
    batches_of,
    beside_each_other,
    randomise,
    tensorflow_only,
)

pytestmark = tensorflow_only
SHARING = {name: CASES[name] for name in SHARING_NAMES}
WITH_STATISTICS = {
    name: case
    for name, case in CASES.items()
    if (CHOSEN and "batch" in name)
    or name in ("BatchNormalization", "PolynomialResidual", "PolynomialResidual-gate-batch")
}


def network_of(cases, freeze):
    layers = beside_each_other(cases)
    # A readout of each, since a frozen layer alone has nothing to learn.
    outputs = [keras.layers.Dense(1)(keras.layers.Flatten()(output)) for output in layers.outputs]
    network = keras.Model(layers.inputs, keras.layers.Concatenate()(outputs))
    randomise(network)
    for inner in network._flatten_layers():
        if freeze and isinstance(inner, keras.layers.BatchNormalization):
            inner.trainable = False
    # The loss is the mean over all cases.
    return network, keras.optimizers.SGD(0.02 * len(cases), momentum=0.9)


def weights_of(network):
    return [(weight.path, keras.ops.convert_to_numpy(weight)) for weight in network.weights]


def alone(cases, freeze, batch):
    """Returns the weights of all `cases` after two steps, by their paths, with nothing but a tape."""
    import tensorflow as tf

    network, optimizer = network_of(cases, freeze)
    for _ in range(2):
        with tf.GradientTape() as tape:
            outputs = network(batch, training=True)
            loss = tf.reduce_mean(tf.square(outputs - 1)) + sum(network.losses)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
    return weights_of(network)


def on_replicas(cases, freeze, batch, xla):
    import tensorflow as tf

    from pinets_tf.training import ReplicaModel, set_up

    with set_up("mirrored").scope():
        network, optimizer = network_of(cases, freeze)
        model = ReplicaModel(network, xla=xla)
        model.compile(optimizer, loss="mse")
    targets = np.ones((len(batch[0]), len(cases)), "float32")
    batches = tf.data.Dataset.from_tensor_slices((tuple(batch), targets)).batch(len(targets)).repeat(2)
    model.fit(batches, shuffle=False, verbose=0)
    return weights_of(network)


def assert_replicas_agree(cases, freeze, batch, xla):
    pairs = zip(alone(cases, freeze, batch), on_replicas(cases, freeze, batch, xla), strict=True)
    for (path, expected), (_, value) in pairs:
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5 * scale, err_msg=path)


with_and_without_xla = pytest.mark.parametrize(
    "xla", [False, pytest.param(True, marks=pytest.mark.long)], ids=["graph", "xla"]
)


@pytest.mark.parametrize("cases", [pytest.param(SHARING, marks=pytest.mark.long), EVERY_LAYER], ids=len)
@with_and_without_xla
def test_two_replicas_equal_one(cases, xla):
    # Each replica has the statistics of its own half of the batch, which are left out of this comparison.
    assert_replicas_agree(cases, True, batches_of(cases, 4), xla)


@with_and_without_xla
def test_two_replicas_equal_one_with_statistics(xla):
    # Both halves of the batch are the same, and so are their statistics and those of the whole.
    batch = [np.concatenate([part] * 2) for part in batches_of(WITH_STATISTICS, 2)]
    assert_replicas_agree(WITH_STATISTICS, False, batch, xla)
