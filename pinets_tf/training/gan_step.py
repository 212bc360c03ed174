"""One training step of two networks against each other: updates of the discriminator, then one of the generator."""

import dataclasses
import functools
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pinets_tf._keras import flatten_layers
from pinets_tf.layers.checks import one_of, positive_integer
from pinets_tf.layers.generation.fade import Fade
from pinets_tf.training.cluster import broadcast
from pinets_tf.training.gan_average import copy_network, decay_at, put_back, update_average, values_of
from pinets_tf.training.gan_losses import LOSSES, with_r1
from pinets_tf.training.replica_model import TIMED_STEPS, WORTHWHILE, XLA_CHOICES
from pinets_tf.training.shares import apply_gradients, scales_loss, summed

LATENTS = ("normal", "uniform")
# What `step` returns, in this order.
LOGGED = ("discriminator_loss", "generator_loss", "r1")
# Random numbers of a step that is none: those of the samples and of the statistics.
SAMPLES, STATISTICS = -1, -2


@dataclasses.dataclass(frozen=True)
class GanRecipe:
    """The numbers of a training of two networks against each other.

    Args:
        steps: updates of the generator in the whole training.
        batch_size: real images, and as many fake ones, in an update of the discriminator, over all replicas.
        generator_batch_size: fake images in an update of the generator; `batch_size` if `None`.
        discriminator_steps: updates of the discriminator in each step.
        loss: `"hinge"` or `"logistic"`, which does not saturate.
        r1: gamma of the penalty on the gradient of the discriminator at real images; 0 for none.
        r1_every: the penalty is computed at every so many updates of the discriminator, with as many times its weight.
        joined: whether real and fake images go through the discriminator as one batch. A spectral normalisation
            advances at each call in training, so that two calls see two networks; joined, both see one. A minibatch
            deviation compares the images of a call and wants them apart.
        latents: `"normal"` for N(0, 1), `"uniform"` for U(-1, 1).
        average: decay of the moving average of the generator.
        average_warm_up: whether that is at most (1 + step) / (10 + step).
        fade_steps: in how many steps networks that grow (`fade=True`) go over from those of half the size to
            themselves: `alpha` of their fades rises linearly to 1, and real images go over with them from those of half
            the size, doubled. 0 leaves images and fades as they are.
        seed: an integer, of the latents.

    Raises:
        ValueError: if a number is out of its range or a word not one of the above.
    """

    steps: int
    batch_size: int = 64
    generator_batch_size: int | None = None
    discriminator_steps: int = 1
    loss: str = "hinge"
    r1: float = 0.0
    r1_every: int = 1
    joined: bool = True
    latents: str = "normal"
    average: float = 0.999
    average_warm_up: bool = False
    fade_steps: int = 0
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "discriminator_steps", "r1_every"):
            positive_integer(name, getattr(self, name), "Pass 1 or more.")
        if self.generator_batch_size is not None:
            positive_integer("generator_batch_size", self.generator_batch_size, "Pass 1 or more, or None.")
        one_of("loss", self.loss, tuple(LOSSES))
        one_of("latents", self.latents, LATENTS)
        if not self.r1 >= 0:
            raise ValueError(f"`r1` must be 0 or more. Received: r1={self.r1!r}. Pass for example 10, or 0 for none.")
        if not 0 <= self.fade_steps <= self.steps:
            raise ValueError(
                "A transition between two sizes ends before the training does, or with it. "
                f"Received: fade_steps={self.fade_steps!r} in {self.steps} steps. Pass fewer, or 0 for none."
            )
        if not 0 <= self.average < 1:
            raise ValueError(
                "`average` is a decay of at least 0 and less than 1. "
                f"Received: average={self.average!r}. Pass for example 0.999, or 0 for the last weights."
            )

    @property
    def generator_batch(self):
        return self.generator_batch_size or self.batch_size


class Adversaries:
    """A generator and a discriminator with their optimizers, the average of the generator, and the step they are at.

    Made inside the scope of a strategy. `step` is called on each replica with its share of the real images. Forward
    pass, loss and gradients of a replica are one function each for the discriminator and the generator, with XLA or
    without; the optimizers, whose sums cross devices, stay outside.

    Args:
        generator: a functional Keras model from latents, one input or several, to images in [-1, 1].
        discriminator: a Keras model from images to logits.
        recipe: a `GanRecipe`.
        generator_optimizer: a Keras optimizer; loss scaling is added where a layer computes in float16.
        discriminator_optimizer: another one. It counts its own updates, `discriminator_steps` in each step.
        xla: whether the functions of each replica are compiled with XLA; may be set until the first step.

    Raises:
        ValueError: if a batch size is not a multiple of the replicas, the generator not a functional model, or nothing
            fades in networks that are to.
    """

    def __init__(self, generator, discriminator, recipe, generator_optimizer, discriminator_optimizer, *, xla=False):
        if not hasattr(generator, "input"):
            raise ValueError(
                "A generator is a functional Keras model, which knows its inputs. "
                f"Received: {generator!r} of type {type(generator).__name__}. Pass keras.Model(latents, images)."
            )
        self.replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, size in (("batch_size", recipe.batch_size), ("generator_batch_size", recipe.generator_batch)):
            if size % self.replicas:
                raise ValueError(
                    "Each replica takes the same share of a batch. "
                    f"Received: {name}={size} for {self.replicas} replicas. Pass a multiple of {self.replicas}."
                )
        if recipe.fade_steps and not (_fades(generator) and _fades(discriminator)):
            raise ValueError(
                "A transition between two sizes is one of networks that grow. "
                f"Received: fade_steps={recipe.fade_steps} for a generator and a discriminator of which "
                f"{sum(1 for one in (generator, discriminator) if not _fades(one))} do not. "
                "Pass those of stylegan_synthesis(fade=True) and stylegan_discriminator(fade=True), or fade_steps=0."
            )
        self.generator = generator
        self.discriminator = discriminator
        self.recipe = recipe
        self.average = copy_network(generator)
        self.generator_optimizer = _built(generator_optimizer, generator)
        self.discriminator_optimizer = _built(discriminator_optimizer, discriminator)
        self.steps_done = keras.Variable(0, dtype="int64", trainable=False, name="steps_done")
        # Of this process: after a loss that is not finite no step changes a trained weight.
        self.first_bad_step = keras.Variable(0, dtype="int64", trainable=False, name="first_bad_step")
        self.dtype = "float64" if generator.compute_dtype == "float64" else "float32"
        self.xla = xla

    def state(self):
        """Returns every variable of the training, in lists by what holds them."""
        holders: tuple[Any, ...] = ("generator", "discriminator", "average", *self.optimizers())
        state = {holder: list(getattr(self, holder).variables) for holder in holders}
        return {**state, "training": [self.steps_done]}

    def optimizers(self):
        return {name: getattr(self, name) for name in ("generator_optimizer", "discriminator_optimizer")}

    def loss_scales(self):
        """Returns the loss scale of each optimizer that has one."""
        scaled = {name: one for name, one in self.optimizers().items() if scales_loss(one)}
        return {
            name.replace("optimizer", "scale"): float(ops.convert_to_numpy(one.dynamic_scale))
            for name, one in scaled.items()
        }

    def skipped_steps(self):
        """Returns how many steps of each optimizer its loss scaling has skipped so far, of those that have one."""
        steps = int(ops.convert_to_numpy(self.steps_done))
        taken = {"generator_optimizer": steps, "discriminator_optimizer": steps * self.recipe.discriminator_steps}
        return {
            name.replace("optimizer", "skipped_steps"): taken[name] - int(ops.convert_to_numpy(one.iterations))
            for name, one in self.optimizers().items()
            if scales_loss(one)
        }

    def step(self, real):
        """Trains on the real images of one replica, and returns its share of the losses of `LOGGED`.

        Args:
            real: images of shape `(batch_size / replicas, discriminator_steps, height, width, channels)`.
        """
        discriminate, penalised, generate = (self._compiled(part) for part in self._parts())
        step, updates = tf.identity(self.steps_done.value), self.recipe.discriminator_steps
        # A distributed dataset does not say how many images each replica gets.
        real = tf.ensure_shape(real, (self.recipe.batch_size // self.replicas, updates, *real.shape[2:]))
        self._fade(step, self.generator, self.discriminator)
        shares = []
        for update in range(updates):
            shares.append(self.update_discriminator(real[:, update], step, update, discriminate, penalised))
        loss, penalty = (sum(part) / updates for part in zip(*shares))
        generator_loss = self.update_generator(step, generate)
        decay = decay_at(step, self.recipe.average, self.recipe.average_warm_up)
        update_average(self.average, self.generator, decay)
        self._fade(step, self.average)
        self.steps_done.assign_add(1)
        return tf.stack([loss, generator_loss, penalty])

    def update_discriminator(self, real, step, update, discriminate=None, penalised=None):
        """Takes one step of the discriminator; returns this replica's share of its loss and of the penalty."""
        plain, with_penalty, _ = self._parts()
        discriminate, penalised = discriminate or plain, penalised or with_penalty
        real = tf.cast(real, self.dtype)
        if self.recipe.fade_steps:
            smaller = ops.average_pool(real, 2, data_format="channels_last")
            doubled = ops.repeat(ops.repeat(smaller, 2, axis=1), 2, axis=2)
            real = doubled + self._alpha(step) * (real - doubled)
        latents = self._share_of_latents(step, update, self.recipe.batch_size)
        every = self.recipe.r1_every
        if not self.recipe.r1:
            loss, penalty, gradients = discriminate(real, latents)
        elif every == 1:
            loss, penalty, gradients = penalised(real, latents)
        else:
            # Outside of what XLA compiles, so that an update without the penalty does not pay for it.
            due = (step * self.recipe.discriminator_steps + update) % every == 0
            loss, penalty, gradients = tf.cond(
                due, lambda: penalised(real, latents), lambda: discriminate(real, latents)
            )
        self._apply(self.discriminator_optimizer, loss + penalty, gradients, self.discriminator)
        return loss, penalty

    def update_generator(self, step, generate=None):
        """Takes one step of the generator, and returns this replica's share of its loss."""
        generate = generate or self._parts()[2]
        purpose = self.recipe.discriminator_steps
        loss, gradients = generate(self._share_of_latents(step, purpose, self.recipe.generator_batch))
        self._apply(self.generator_optimizer, loss, gradients, self.generator)
        return loss

    def latents(self, step, purpose, count):
        """Returns inputs of the generator that depend on the seed of the recipe and these numbers alone."""
        seed = tf.constant([self.recipe.seed, 0], tf.int32)
        for number in (step, purpose):
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int32))
        inputs = keras.tree.flatten(self.generator.input)
        drawn = []
        for index, tensor in enumerate(inputs):
            shape, own = (count, *tensor.shape[1:]), tf.random.experimental.stateless_fold_in(seed, index)
            if self.recipe.latents == "normal":
                drawn.append(tf.random.stateless_normal(shape, own, dtype=self.dtype))
            else:
                drawn.append(tf.random.stateless_uniform(shape, own, -1.0, 1.0, self.dtype))
        return keras.tree.pack_sequence_as(self.generator.input, drawn)

    def resolve_xla(self, choice, real):
        """Turns XLA on or off, by measurement if `choice` is "auto", and returns a line that says what and why.

        Args:
            choice: `"on"`, `"off"` or `"auto"`.
            real: images of the size that one replica takes in one update of the discriminator; all variables are left
                as they are.
        """
        if one_of("xla", choice, XLA_CHOICES) != "auto":
            self.xla = choice == "on"
            return f"XLA {choice} (as asked)"
        images, rates = self.recipe.discriminator_steps * len(real), {}
        for use_xla in (False, True):
            self.xla = use_xla
            rates[use_xla] = images / self._seconds_per_step(real)
        # All processes measure, and do what the first one finds.
        (faster,) = broadcast([np.float32(rates[True] > WORTHWHILE * rates[False])])
        self.xla = bool(faster)
        measured = f"measured {rates[True]:,.0f} images/s with, {rates[False]:,.0f} without"
        return f"XLA {'on' if self.xla else 'off'} ({measured}, forward and gradients)"

    def _seconds_per_step(self, real):
        """Times the parts of a step that XLA may compile; puts back the variables that they change."""

        def replica():
            discriminate, penalised, generate = (self._compiled(part) for part in self._parts())
            images, step = tf.cast(real, self.dtype), self.steps_done.value
            # A penalty that is seldom computed is seldom paid for.
            differentiate = penalised if self.recipe.r1 and self.recipe.r1_every == 1 else discriminate
            first, *others = (
                differentiate(images, self._share_of_latents(step, update, self.recipe.batch_size))
                for update in range(self.recipe.discriminator_steps)
            )
            purpose = self.recipe.discriminator_steps
            return first, others, generate(self._share_of_latents(step, purpose, self.recipe.generator_batch))

        # Everything is returned, since a graph leaves out what nobody reads.
        step = tf.function(lambda: tf.distribute.get_strategy().run(replica))
        before = {network: values_of(network) for network in (self.generator, self.discriminator)}
        step()
        started = time.perf_counter()
        for _ in range(TIMED_STEPS):
            step()
        seconds = (time.perf_counter() - started) / TIMED_STEPS
        for network, values in before.items():
            put_back(network, values)
        return seconds

    def _parts(self):
        """Returns the functions of one replica that XLA may compile."""
        plain, penalised = (functools.partial(self._differentiate_discriminator, penalise=x) for x in (False, True))
        return plain, penalised, self._differentiate_generator

    def _compiled(self, part):
        return tf.function(part, jit_compile=True if self.xla else None)

    def _differentiate_discriminator(self, real, latents, penalise):
        recipe = self.recipe
        # In training mode, so that batch normalisations make the fakes that the generator is trained with.
        fake = tf.stop_gradient(tf.cast(self.generator(latents, training=True), self.dtype))

        def logits(images):
            if recipe.joined:
                both = self.discriminator(tf.concat([images, fake], axis=0), training=True)
                return both[: len(images)], both[len(images) :]
            return self.discriminator(images, training=True), self.discriminator(fake, training=True)

        with tf.GradientTape() as tape:
            if penalise:
                of_real, of_fake, penalty = with_r1(logits, real, recipe.r1 * recipe.r1_every)
            else:
                (of_real, of_fake), penalty = logits(real), tf.zeros((), self.dtype)
            loss = self._share(LOSSES[recipe.loss][0](of_real, of_fake))
            penalty = self._share(penalty)
            scaled_loss = self.discriminator_optimizer.scale_loss(loss + penalty)
        return loss, penalty, tape.gradient(scaled_loss, self.discriminator.trainable_variables)

    def _differentiate_generator(self, latents):
        with tf.GradientTape() as tape:
            fake = tf.cast(self.generator(latents, training=True), self.dtype)
            # As at inference, so that this step changes nothing of the discriminator: it judges with the weights, and
            # the spectral norms, that its own last update left.
            loss = self._share(LOSSES[self.recipe.loss][1](self.discriminator(fake, training=False)))
            scaled_loss = self.generator_optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled_loss, self.generator.trainable_variables)

    def _alpha(self, step):
        """Returns how far networks that grow are in a step: 1 in the last of their transition."""
        return ops.minimum(ops.cast(step + 1, self.dtype) / self.recipe.fade_steps, 1.0)

    def _fade(self, step, *networks):
        if self.recipe.fade_steps:
            for layer in (layer for network in networks for layer in _fades(network)):
                layer.alpha.assign(ops.cast(self._alpha(step), layer.alpha.dtype))

    def _share(self, loss):
        """Returns this replica's part of a mean over the batch, since the optimizer adds the gradients of all."""
        # The last layer of a float64 network may be float32.
        return tf.cast(loss, self.dtype) / self.replicas

    def _share_of_latents(self, step, purpose, count):
        """Returns this replica's part of the latents of a whole batch, which does not depend on the replicas."""
        here = tf.distribute.get_replica_context().replica_id_in_sync_group
        whole = self.latents(step, purpose, count)
        shape = (self.replicas, count // self.replicas)
        return keras.tree.map_structure(lambda x: tf.reshape(x, (*shape, *x.shape[1:]))[here], whole)

    def _apply(self, optimizer, loss, gradients, network):
        """Takes a step of an optimizer, unless a loss was not finite on any replica, now or before."""
        first_bad = tf.convert_to_tensor(self.first_bad_step)
        bad = summed(tf.cast(~tf.math.is_finite(loss) | (first_bad > 0), tf.float32)) > 0
        step = tf.convert_to_tensor(self.steps_done) + 1
        self.first_bad_step.assign(tf.where(bad & (first_bad == 0), step, first_bad))
        apply_gradients(optimizer, gradients, network.trainable_variables, ~bad)


def _built(optimizer, network):
    """Returns an optimizer that has its variables, with loss scaling if a layer of the network computes in float16."""
    half = any(layer.compute_dtype == "float16" for layer in flatten_layers(network))
    if half and not scales_loss(optimizer):
        # Keras adds it in `compile` alone.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(network.trainable_variables)
    return optimizer


def _fades(network):
    return [layer for layer in flatten_layers(network) if isinstance(layer, Fade)]
