"""A Keras model around a network that compiles with XLA only what runs on one replica."""

import math
import time

import keras
import numpy as np
import tensorflow as tf

from pinets_tf.layers.checks import one_of
from pinets_tf.training.cluster import broadcast
from pinets_tf.training.shares import apply_gradients, scales_loss, summed

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
        # All steps, also those that loss scaling skips.
        self.steps_done = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="steps")
        self.first_bad_step = self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False, name="first_bad_step"
        )
        self.built = True

    def call(self, x, training=None):
        return self.network(x, training=training)

    def compile(self, *args, **kwargs):
        super().compile(*args, jit_compile=False, **kwargs)
        if self.optimizer is not None:
            # A step takes place or not, and no variable can be made in what may not take place.
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data):
        self.update(data)
        return self.get_metrics_result()

    def update(self, data, asked=False):
        """Takes one step with the part of a batch that one replica has, which weighs as many samples as it has.

        After a loss that is not finite on any replica, or a gradient where loss scaling does not skip such steps, no
        step changes a trained weight, until `first_bad_step` is 0, and the loss in the logs is not finite.

        Args:
            data: a tuple of inputs, targets and perhaps weights of samples.
            asked: whether this process is asked to stop.

        Returns:
            A float32 vector, the same on all replicas: how many have had a loss or a gradient that is not finite, now
            or before, and how many were asked to stop.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        size, known = _batch_size(x)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        differentiate = tf.function(self._differentiate, jit_compile=True) if self.xla else self._differentiate
        if known or replicas == 1:
            loss, y_pred, gradients = differentiate(x, y, sample_weight)
        else:
            whole = summed(tf.cast(size, tf.float32))
            weight = tf.cast(size, tf.float32) * replicas / tf.maximum(whole, 1)
            loss, y_pred, gradients = tf.cond(
                size > 0,
                lambda: self._dense(*differentiate(x, y, sample_weight, weight)),
                lambda: self._nothing(x),
            )
        self.steps_done.assign_add(1)
        step, first_bad = tf.convert_to_tensor(self.steps_done), tf.convert_to_tensor(self.first_bad_step)
        finite = tf.math.is_finite(loss)
        if not scales_loss(self.optimizer):
            finite &= _all_finite(gradients)
        bad = ~finite | (first_bad > 0)
        state = summed(tf.stack([tf.cast(bad, tf.float32), tf.cast(asked, tf.float32)]))
        self.first_bad_step.assign(tf.where((state[0] > 0) & (first_bad == 0), step, first_bad))
        apply_gradients(self.optimizer, gradients, self.trainable_variables, state[0] == 0)
        # `fit` of Keras shows that no weight changes any more.
        self._update_loss(tf.where(state[0] == 0, loss, math.nan), size)
        self.compute_metrics(x, y, y_pred, sample_weight)
        return state

    def test(self, data):
        """Updates loss and metrics with the part of a batch that one replica has, and returns its size."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        size, _ = _batch_size(x)

        def judge():
            y_pred = self(x, training=False)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
            self._update_loss(self._unscaled(loss), size)
            self.compute_metrics(x, y, y_pred, sample_weight)
            return size

        return tf.cond(size > 0, judge, lambda: size)

    def _update_loss(self, loss, size):
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=size)

    def _differentiate(self, x, y, sample_weight, weight=None):
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = weighted = self.compute_loss(x, y, y_pred, sample_weight)
            if weight is not None:
                # All but the regularisers of weights is a mean over the samples of this replica.
                of_weights = self._loss_of_weights(loss.dtype)
                weighted = (loss - of_weights) * tf.cast(weight, loss.dtype) + of_weights
            scaled_loss = self.optimizer.scale_loss(weighted)
        return self._unscaled(loss), y_pred, tape.gradient(scaled_loss, self.trainable_variables)

    def _loss_of_weights(self, dtype):
        terms = [v.regularizer(v) for v in self.trainable_variables if v.regularizer is not None]
        return tf.cast(sum(terms, 0.0), dtype) / tf.distribute.get_strategy().num_replicas_in_sync

    def _unscaled(self, loss):
        # Under a strategy Keras divides the loss by the number of replicas, since gradients are summed.
        return loss * tf.cast(tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype)

    def _dense(self, loss, y_pred, gradients):
        pairs = zip(self.trainable_variables, gradients)
        dense = [tf.zeros_like(v) if one is None else tf.convert_to_tensor(one) for v, one in pairs]
        return tf.cast(loss, tf.float32), y_pred, dense

    def _nothing(self, x):
        """Returns what a replica without a sample has: its share of the regularisers."""
        with tf.GradientTape() as tape:
            loss = self.optimizer.scale_loss(self._loss_of_weights(tf.float32))
        gradients = tape.gradient(loss, self.trainable_variables)
        return self._dense(tf.zeros(()), self._no_answers(x), gradients)

    def _no_answers(self, x):
        """Returns the answers to no samples, without the network where its graph says their shapes.

        Convolutions of no images fail.
        """
        outputs = getattr(self.network, "outputs", None)
        if not outputs:
            return self(x, training=False)
        structure = outputs[0] if isinstance(self.network, keras.Sequential) else self.network.output
        return tf.nest.map_structure(lambda y: tf.zeros([0, *(size or 1 for size in y.shape[1:])], y.dtype), structure)

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
        # All processes measure, and do what the first one finds.
        rates = {use_xla: len(x) / self._seconds_per_step(x, y, use_xla) for use_xla in (False, True)}
        (faster,) = broadcast([np.float32(rates[True] > WORTHWHILE * rates[False])])
        self.xla = bool(faster)
        measured = f"measured {rates[True]:,.0f} images/s with, {rates[False]:,.0f} without"
        return f"XLA {'on' if self.xla else 'off'} ({measured}, forward and gradients)"

    def _seconds_per_step(self, x, y, use_xla):
        """Times the part of a step that XLA may compile; puts back the statistics that it changes."""

        def replica():
            # A function of its own for each replica, which XLA compiles for the variables there.
            compiled = tf.function(self._differentiate, jit_compile=True) if use_xla else self._differentiate
            # Everything is returned, since a graph leaves out what nobody reads.
            return compiled(x, y, None)

        step = tf.function(lambda: self.distribute_strategy.run(replica))
        before = [keras.ops.convert_to_numpy(variable) for variable in self.non_trainable_variables]
        step()
        started = time.perf_counter()
        for _ in range(TIMED_STEPS):
            step()
        seconds = (time.perf_counter() - started) / TIMED_STEPS
        for variable, value in zip(self.non_trainable_variables, before):
            variable.assign(value)
        return seconds


def _all_finite(gradients):
    """Returns whether all numbers of gradients, of which some may be `None` or have few rows, are finite."""
    values = [one.values if isinstance(one, tf.IndexedSlices) else one for one in gradients if one is not None]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in values])


def _batch_size(x):
    """Returns how many samples a batch has, as a tensor, and whether that is known before it is there."""
    first = tf.nest.flatten(x)[0]
    return tf.shape(first)[0], first.shape[0] is not None
