"""A Keras model around a network that compiles with XLA only what runs on one replica."""

import time

import keras
import tensorflow as tf

from pinets_tf.layers.checks import one_of

XLA_CHOICES = ("auto", "on", "off")
TIMED_STEPS = 5
# XLA must win by more than the noise of a few steps, since it also costs the time to compile.
WORTHWHILE = 1.05


class ReplicaModel(keras.Model):
    """Trains `network` with `fit`, with forward pass, loss and gradients of each replica as one XLA function.

    `compile(jit_compile=True)` of Keras compiles the whole step and fails with several replicas, because the sum of
    the gradients crosses devices. Here the optimizer and the metrics stay outside what is compiled, so that `fit` works
    under `tf.distribute.MirroredStrategy`, with loss scaling and batch normalisation, with XLA and without.

    Save, export and summarise `network`; this model only trains and evaluates it.

    Args:
        network: a built Keras model.
        xla: whether the function of each replica is compiled with XLA; may be set until the first step.
    """

    def __init__(self, network, xla=False):
        super().__init__()
        self.network = network
        self.xla = xla
        # Of all steps, also those that loss scaling skips; for checkpoints, which set it.
        self.steps_done = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="steps")
        self.built = True

    def call(self, x, training=None):
        return self.network(x, training=training)

    def compile(self, *args, **kwargs):
        super().compile(*args, jit_compile=False, **kwargs)

    def train_step(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        differentiate = tf.function(self._differentiate, jit_compile=True) if self.xla else self._differentiate
        loss, y_pred, gradients = differentiate(x, y, sample_weight)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(y_pred)[0])
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _differentiate(self, x, y, sample_weight):
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight)
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_variables)
        # Under a strategy Keras divides the loss by the number of replicas, since gradients are summed.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return loss * tf.cast(replicas, loss.dtype), y_pred, gradients

    def resolve_xla(self, choice, batch):
        """Turns XLA on or off, by measurement if `choice` is "auto", and returns a line that says what and why.

        Args:
            choice: `"on"`, `"off"` or `"auto"`.
            batch: a pair (x, y) of the size that one replica will see; the weights are left as they are.
        """
        if one_of("xla", choice, XLA_CHOICES) != "auto":
            self.xla = choice == "on"
            return f"XLA {choice} (as asked)"
        x, y = batch
        rates = {use_xla: len(x) / self._seconds_per_step(x, y, use_xla) for use_xla in (False, True)}
        self.xla = rates[True] > WORTHWHILE * rates[False]
        measured = f"measured {rates[True]:,.0f} images/s with, {rates[False]:,.0f} without"
        return f"XLA {'on' if self.xla else 'off'} ({measured}, forward and gradients)"

    def _seconds_per_step(self, x, y, use_xla):
        """Times the part of a step that XLA may compile; puts back the statistics that it changes."""
        replica = tf.function(self._differentiate, jit_compile=True) if use_xla else self._differentiate
        # Everything is returned, since a graph leaves out what nobody reads.
        step = tf.function(lambda: self.distribute_strategy.run(replica, args=(x, y, None)))
        before = [keras.ops.convert_to_numpy(variable) for variable in self.non_trainable_variables]
        step()
        started = time.perf_counter()
        for _ in range(TIMED_STEPS):
            step()
        seconds = (time.perf_counter() - started) / TIMED_STEPS
        for variable, value in zip(self.non_trainable_variables, before):
            variable.assign(value)
        return seconds
