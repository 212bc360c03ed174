"""A step on one, two and four replicas gives the same weights, for every loss and precision, with XLA and without."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pinets_tf import training
from pinets_tf.layers import NCP
from pinets_tf.training.gan_losses import LOSSES
from pinets_tf.training.loop import Loop
from pinets_tf.training.shares import share_out
from tests.training import workers

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
RNG = np.random.default_rng(0)
# Of 23 samples in batches of 10 the last has three: none for one of four replicas, and one for three.
X, LABELS = RNG.normal(size=(23, 5)).astype("float32"), RNG.integers(0, 3, 23).astype("int32")
FITS = {
    "crossentropy": (training.crossentropy(), LABELS),
    "smoothed crossentropy": (training.crossentropy(0.1), LABELS),
    "standardised L1": (training.standardised_l1(np.full((1, 3), 2.0)), RNG.normal(size=(23, 1, 3)).astype("float32")),
}
REAL = np.tanh(RNG.normal(size=(64, 4, 4, 1))).astype("float32")


def mirrored(replicas):
    devices = [f"CPU:{number}" for number in range(replicas)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def fitted(loss, strategy, xla):
    """Returns the weights, the loss and the mean absolute error after an epoch with regularisers and sample weights."""
    function, targets = FITS[loss]
    keras.utils.set_random_seed(1)
    with strategy.scope():
        head = [keras.layers.Reshape((1, 3))] * (targets.ndim > 1)
        network = keras.Sequential(
            [
                keras.Input((5,)),
                NCP(6, 3, rank=8, name="ncp"),
                keras.layers.Dense(3, kernel_regularizer="l2"),
                *head,
                keras.layers.Activation("linear", dtype="float32"),
            ]
        )
        model = training.ReplicaModel(network, xla=xla)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.5), loss=function)
        weights = (1.0 + np.arange(23) % 3).astype("float32")
        samples = tf.data.Dataset.from_tensor_slices((X, targets, weights)).batch(10)
        lessons = training.Lessons(lambda epoch: samples, lambda: 3, 10, validation=samples, test=samples)
        loop = Loop(model, lessons)
        loop.run(0, 1)
        return [*map(ops.convert_to_numpy, network.weights), *(np.array(value) for value in loop.validate().values())]


def adversarial(loss, strategy, xla):
    """Returns the weights of all networks after two steps of a GAN."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        z = keras.Input((3,))
        polynomial = NCP(16, 2, rank=4)(z)
        generator = keras.Model(z, keras.layers.Reshape((4, 4, 1))(keras.layers.Activation("tanh")(polynomial)))
        x = keras.Input((4, 4, 1))
        y = keras.layers.Dense(8, activation="softplus", kernel_regularizer="l2")(keras.layers.Flatten()(x))
        discriminator = keras.Model(x, keras.layers.Dense(1, dtype="float32")(y))
        recipe = training.GanRecipe(2, batch_size=8, generator_batch_size=16, loss=loss, r1=1.0, discriminator_steps=2)
        optimizers = (keras.optimizers.SGD(0.05, momentum=0.5) for _ in range(2))
        one = training.Adversaries(generator, discriminator, recipe, *optimizers, xla=xla)
        batches = tf.data.Dataset.from_tensor_slices(REAL.reshape(4, 8, 2, 4, 4, 1))
        iterator = iter(strategy.experimental_distribute_dataset(batches))
        step = tf.function(lambda images: strategy.run(one.step, args=(images,)))
        for _ in range(2):
            step(next(iterator))
        return [ops.convert_to_numpy(variable) for network in one.state().values() for variable in network]


def compare(folder, number, cases):
    """Asserts, in a process of four logical CPUs, that replicas change nothing in each case."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    for (make, loss), xla, precision in cases:
        keras.config.set_dtype_policy(precision)
        alone = globals()[make](loss, tf.distribute.get_strategy(), xla)
        # A sum of another order, which 16 bits round otherwise.
        tolerance = {"float32": 1e-5, "mixed_float16": 5e-3, "mixed_bfloat16": 4e-2}[precision]
        for replicas in (2, 4):
            together = globals()[make](loss, mirrored(replicas), xla)
            for value, expected in zip(together, alone, strict=True):
                scale = max(1.0, float(np.abs(expected).max(initial=0)))
                np.testing.assert_allclose(
                    value,
                    expected,
                    rtol=tolerance,
                    atol=tolerance * scale,
                    err_msg=f"{loss} {xla} {precision} {replicas}",
                )
        print(loss, xla, precision, flush=True)


def run(folder, cases):
    (status,) = workers.wait(workers.start(1, compare, folder, cases), seconds=1500)
    printed = workers.printed(folder)
    assert status == 0, printed["err-0"][-3000:]
    assert printed["out-0"].count("\n") == len(cases)


KINDS = [*(("fitted", loss) for loss in FITS), *(("adversarial", loss) for loss in LOSSES)]


def test_replicas_change_nothing(tmp_path):
    run(tmp_path, [(KINDS[0], False, "float32")])


@pytest.mark.long
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_every_loss_in_every_precision(tmp_path, xla, precision):
    run(tmp_path, list(itertools.product(KINDS, [xla], [precision])))


def test_class_weights_of_fit():
    def trained(strategy):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            network = keras.Sequential([keras.Input((5,)), NCP(3, 2, rank=4)])
            model = training.ReplicaModel(network)
            model.compile(keras.optimizers.SGD(0.1), loss=training.crossentropy())
        batches = tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(10)
        model.fit(batches, class_weight={0: 1.0, 1: 3.0, 2: 0.5}, shuffle=False, verbose=0)
        return network.get_weights()

    for value, expected in zip(trained(training.set_up("mirrored")), trained(training.set_up("none"))):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def convolutional():
    images = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(images))
    return keras.Model(images, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def test_a_batch_of_fewer_samples_than_replicas():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 8, 8, 3)).astype("float32"), np.arange(3)

    def trained(strategy):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = training.ReplicaModel(convolutional())
            model.compile(keras.optimizers.SGD(0.1), loss=training.crossentropy())
            batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(1)
            iterator = share_out(batches)
            step = tf.function(lambda: strategy.run(model.update, args=(next(iterator),)))
            for _ in range(3):
                step()
            return [ops.convert_to_numpy(weight) for weight in model.network.trainable_weights]

    for value, expected in zip(trained(training.set_up("mirrored")), trained(training.set_up("none"))):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_xla_is_measured_on_replicas():
    with training.set_up("mirrored").scope():
        model = training.ReplicaModel(convolutional())
        model.compile(keras.optimizers.SGD(0.1), loss=training.crossentropy())
        said = model.resolve_xla("auto", (np.zeros((2, 8, 8, 3), "float32"), np.arange(2)))
    assert "measured" in said
