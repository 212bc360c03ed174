"""A training step on two replicas gives the weights of a step on one."""

import keras
import numpy as np
import pytest

from tests.conformance.cases import every_layer, functional, randomise, tensorflow_only

pytestmark = tensorflow_only


def one_step(case, strategy, xla):
    import tensorflow as tf

    from pinets_tf.training import ReplicaModel

    with strategy.scope():
        network = functional(case)
        randomise(network)
        for layer in network._flatten_layers():
            # Statistics are those of each replica's own half of the batch; here only the step is compared.
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        model = ReplicaModel(network, xla=xla)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    targets = np.ones((4, *network.output_shape[1:]), "float32")
    if len(case.shape) > 1:
        targets = np.ones(network(case.batch(4)).shape, "float32")
    batches = tf.data.Dataset.from_tensor_slices((case.batch(4), targets)).batch(4).repeat(2)
    model.fit(batches, shuffle=False, verbose=0)
    return [keras.ops.convert_to_numpy(weight) for weight in network.weights]


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
@every_layer
def test_two_replicas_equal_one(case, xla):
    import tensorflow as tf

    from pinets_tf.training import set_up

    one = one_step(case, tf.distribute.get_strategy(), xla)
    two = one_step(case, set_up("mirrored"), xla)
    for expected, value in zip(one, two):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(expected).max()))
