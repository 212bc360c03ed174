"""ResNet18 of pinets_tf on random images of 32x32 pixels, and the two steps that are timed."""

import keras
import tensorflow as tf

from pinets_tf.models import resnet
from pinets_tf.training import CoupledSGD, ReplicaModel

CLASSES = 10
BATCH = 64
LEARNING_RATE = 1e-3
MOMENTUM = 0.9
# Name in the tables: order, activation.
NETWORKS = {"order 2": (2, None), "ReLU": (1, "relu")}


def build(name):
    """Returns the polynomial network or the one with ReLU, as a Keras model."""
    order, activation = NETWORKS[name]
    return resnet((32, 32, 3), CLASSES, order=order, activation=activation)


def random_batch(seed=0):
    images = tf.random.stateless_normal((BATCH, 32, 32, 3), (seed, 0))
    labels = tf.random.stateless_uniform((BATCH,), (seed, 1), maxval=CLASSES, dtype=tf.int32)
    return images, labels


def inference(network, images):
    """Returns a function without arguments that computes the logits."""
    run = tf.function(lambda x: network(x, training=False))
    return lambda: run(images)


def training_step(network, images, labels):
    """Returns a function without arguments that does a step of SGD with momentum, as `fit` does it."""
    model = ReplicaModel(network)
    model.compile(
        CoupledSGD(LEARNING_RATE, MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    run = tf.function(model.train_step)
    return lambda: run((images, labels))
