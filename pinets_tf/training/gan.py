"""Training of a generator and a discriminator: the loop, what it shows and keeps, and the run as flags say."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras import ops

from pinets_tf.layers.checks import positive_integer
from pinets_tf.metrics import to_uint8
from pinets_tf.training.cluster import alone, check_agreement, hosts, is_chief
from pinets_tf.training.fitting import first_bad_number, load_network, run
from pinets_tf.training.gan_average import put_back, settle_statistics, values_of
from pinets_tf.training.gan_checkpoints import GanCheckpoints, GanHistory, kept
from pinets_tf.training.gan_flags import gan_optimizers, gan_recipe
from pinets_tf.training.gan_step import LOGGED, SAMPLES, STATISTICS, Adversaries
from pinets_tf.training.interruption import Interruption
from pinets_tf.training.progress import duration
from pinets_tf.training.runtime import Divergence, exit_on_full_disk
from pinets_tf.training.shares import averaging, share_out
from pinets_tf.training.workdir import check_length, save_network

GENERATOR, RAW, DISCRIMINATOR = "generator.keras", "generator_raw.keras", "discriminator.keras"


@dataclasses.dataclass(frozen=True)
class GanLessons:
    """What a generator learns from.

    Args:
        images: a function from the number of finished steps to an endless dataset of all batches that follow, float32
            images in [-1, 1]; a batch is for one step, and has `discriminator_steps * batch_size` images.
        steps: a function that returns how many steps the training has, or says why it has none.
        fingerprint: as in `Lessons`.
    """

    images: Callable[[int], tf.data.Dataset]
    steps: Callable[[], int]
    fingerprint: str | None = None


def run_gan(
    workdir,
    lessons,
    build,
    *,
    draw,
    evaluate=None,
    joined=True,
    fade_steps=0,
    once=False,
    samples=64,
    title="",
    remedy="",
    facts=None,
):
    """Trains two networks as the flags say, or scores the saved generator with `--eval_only`; ends with a line of JSON.

    The flags are those of `define_run_flags` and `define_gan_flags`. Settings and data that are wrong end the program
    with the message alone, before the workdir is made.

    Args:
        workdir: the folder of the run.
        lessons: a function that returns `GanLessons`.
        build: a function from these to a pair, the generator and the discriminator.
        draw, samples: as in `fit_gan`.
        evaluate: a function from the saved generator and the lessons to a dictionary of JSON values, called in the
            strategy; `None` for no scores.
        joined, fade_steps: as in `GanRecipe`.
        once: whether a run that has ended is left as it is, and its result returned.
        title: a line for the terminal and above the curves.
        remedy: what to try when a loss is not finite.
        facts: what the configuration and the result say beside the flags and the scores.

    Returns:
        The result, a dictionary of JSON values, as in the `result.json` of the workdir.
    """
    from absl.flags import FLAGS

    workdir = Path(workdir)

    def adversaries(networks, steps):
        recipe = gan_recipe(steps=steps, joined=joined, fade_steps=fade_steps)
        numbers = {name: FLAGS[name].value for name in ("learning_rate", "beta_1", "beta_2", "decay")}
        generator, discriminator = networks
        return Adversaries(generator, discriminator, recipe, *gan_optimizers(recipe, **numbers))

    def fit(networks, adversaries, material):
        names = ("xla", "log_every", "sample_every", "checkpoint_every", "steps_per_loop", "settle")
        options = {name: FLAGS[name].value for name in names}
        went = fit_gan(
            adversaries, material, workdir, draw=draw, samples=samples, title=title, remedy=remedy, **options
        )
        if not evaluate or not is_chief():
            return went
        return {**went, **alone(lambda: evaluate(load_generator(workdir), material))}

    return run(
        workdir,
        lessons,
        build,
        load=load_generator,
        optimizer=adversaries,
        fit=fit,
        evaluate=evaluate or (lambda generator, material: {}),
        title=title,
        facts=facts or {},
        once=once,
        count=lambda networks: (networks[0] if isinstance(networks, tuple) else networks).count_params(),
        length=lambda material: ("steps", material.steps()),
    )


def fit_gan(
    adversaries,
    lessons,
    workdir,
    *,
    draw,
    xla="auto",
    log_every=100,
    sample_every=1000,
    checkpoint_every=1000,
    steps_per_loop=1,
    samples=64,
    settle=0,
    title="",
    remedy="",
):
    """Trains two networks where their workdir left off, saves them, and returns how that went.

    Called inside the scope of the strategy. Writes `generator.keras`, the average, `generator_raw.keras`, the last
    weights, `discriminator.keras`, `history.csv`, `curves.png`, `samples/`, `checkpoints/` and logs of TensorBoard.

    Args:
        adversaries: `Adversaries`, the two networks with their optimizers and their recipe.
        lessons: `GanLessons`.
        workdir: the folder of the run, as `open_workdir` returns it.
        draw: a function from uint8 images of shape (n, height, width, channels) and the path of a PNG that it writes to
            the picture of all of them, an array of shape (height, width, channels).
        xla: `"auto"`, `"on"` or `"off"`, as in `Adversaries.resolve_xla`.
        log_every: steps between rows of the history: means of the losses since the row before, loss scales, and how
            many real images the discriminator sees in a second of training alone.
        sample_every: steps between pictures of samples of the average generator, always from the same latents.
        checkpoint_every: steps between checkpoints.
        steps_per_loop: the most steps in one call of TensorFlow.
        samples: how many images a picture of samples has.
        settle: on how many batches the statistics of the average are settled for samples and for the saved generator,
            as `settle_statistics` does; 0 for the averages of the moving statistics.
        title: a line above the curves.
        remedy: what to try when a loss is not finite.

    Returns:
        A dictionary of JSON values: parameters of both networks, steps, images per second and seconds.

    Raises:
        Divergence: if a loss or a weight is not finite; the last checkpoint stays.
        ValueError: if a number is not positive, the images do not fit the recipe, or the checkpoint the networks, or
            more steps are done.
    """
    started = time.perf_counter()
    recipe, workdir = adversaries.recipe, Path(workdir)
    intervals = {"log": log_every, "sample": sample_every, "checkpoint": checkpoint_every}
    for name, every in intervals.items():
        positive_integer(f"{name}_every", every, "Pass 1 or more.")
    positive_integer("steps_per_loop", steps_per_loop, "Pass 1 or more.")
    checkpoints = GanCheckpoints(workdir)
    step, sums = checkpoints.restore(adversaries)
    check_length(workdir, "steps", recipe.steps, step)
    history = GanHistory(workdir, step)
    sums = np.zeros(len(LOGGED), adversaries.dtype) if sums is None else sums
    if step < recipe.steps:
        batches = _batches_of_steps(lessons.images(step), recipe)
        print(adversaries.resolve_xla(xla, next(iter(batches))[: recipe.batch_size // adversaries.replicas, 0]))
        iterator = share_out(batches)
    if step:
        where = f"going on after step {step:,} of {recipe.steps:,}"
        print(where if step < recipe.steps else f"finished: {recipe.steps:,} steps")
    gallery = Samples(adversaries, workdir, draw, samples, settle)
    loop, clock = _loop(adversaries), _Clock(step)
    average = [averaging(one) for one in (adversaries.generator, adversaries.discriminator, adversaries.average)]
    folder = os.fsencode(workdir / "tensorboard")  # TensorFlow takes no text for a path that is not UTF-8.
    writer = tf.summary.create_file_writer(folder) if is_chief() else tf.summary.create_noop_writer()
    together = hosts()[1] > 1
    with exit_on_full_disk(workdir), Interruption(together) as interruption:
        while step < recipe.steps:
            ahead = (every - step % every for every in intervals.values())
            count = min(steps_per_loop, recipe.steps - step, *ahead)
            asked = tf.constant(float(interruption.received is not None))
            losses, asked = loop(iterator, tf.constant(count), asked)
            sums = sums + losses
            step += count
            if together and asked:
                interruption.agree()
            due = {name for name, every in intervals.items() if step % every == 0 or step == recipe.steps}
            interrupted = interruption.due and step < recipe.steps
            if interrupted:
                due = due | {"checkpoint"}
            if not due and clock.traced:
                continue
            # Waits for the device, so that the clock is right.
            sums = ops.convert_to_numpy(sums)
            clock.stop(step)
            since = (step - 1) // log_every * log_every
            if due & {"log", "checkpoint"}:
                _check_finite(sums / (step - since), adversaries, lessons, checkpoints, remedy)
            if due & {"sample", "checkpoint"}:
                for one in average:
                    one()
            if "log" in due:
                values = dict(zip(LOGGED, sums / (step - since)))
                if not recipe.r1:
                    del values["r1"]
                values |= {**adversaries.loss_scales(), **adversaries.skipped_steps()}
                speed = clock.steps_per_second() * recipe.discriminator_steps * recipe.batch_size
                history.add(step, {**values, "images_per_second": speed})
                shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
                left = duration(clock.seconds_left(recipe.steps))
                print(f"step {step:,}/{recipe.steps:,}  {shown}  {speed:,.0f} images/s  {left} left", flush=True)
                with writer.as_default(step):
                    for name, value in {**values, "images_per_second": speed}.items():
                        tf.summary.scalar(name, value)
                sums = np.zeros_like(sums)
            if "sample" in due and is_chief():
                with writer.as_default(step):
                    tf.summary.image("samples", alone(gallery.draw, step)[None])
            if "checkpoint" in due:
                checkpoints.save(adversaries, step, sums, remedy)
            if interrupted:
                interruption.leave(f"the state after step {step:,} of {recipe.steps:,}")
            clock.start(step)
    writer.close()
    check_agreement([*adversaries.generator.trainable_variables, *adversaries.discriminator.trainable_variables])
    if not is_chief():
        return {}
    alone(gallery.settle)
    for network, name in (
        (adversaries.average, GENERATOR),
        (adversaries.generator, RAW),
        (adversaries.discriminator, DISCRIMINATOR),
    ):
        save_network(network, workdir / name)
    result = {
        "parameters": adversaries.generator.count_params(),
        "discriminator_parameters": adversaries.discriminator.count_params(),
        "steps": recipe.steps,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if history.rows:  # Which may have been deleted.
        history.draw(workdir / "curves.png", LOGGED[:2], title)
        result["images_per_second"] = round(float(history.rows[-1]["images_per_second"]), 1)
    return result


class Samples:
    """Pictures of images of the average generator, always from the same latents."""

    def __init__(self, adversaries, workdir, draw, count, settle):
        self.average = adversaries.average
        self.folder = Path(workdir) / "samples"
        self.picture = draw
        self.latents = adversaries.latents(SAMPLES, 0, count)
        size = adversaries.recipe.generator_batch
        self.batches = [adversaries.latents(STATISTICS, index, size) for index in range(settle)]
        self.generate = tf.function(lambda latents: self.average(latents, training=False))

    def settle(self):
        if self.batches:
            settle_statistics(self.average, self.batches)

    def draw(self, step):
        """Draws the samples of a step, and returns the picture."""
        before = values_of(self.average)
        self.settle()
        images = np.nan_to_num(ops.convert_to_numpy(self.generate(self.latents)).astype("float32"))
        # The training goes on as it would without a picture.
        put_back(self.average, before)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.picture(to_uint8(images), self.folder / f"step_{step:07d}.png")


def load_generator(workdir):
    """Returns the saved generator of a workdir, the average.

    Raises:
        ValueError: if it cannot be loaded.
    """
    return load_network(workdir, GENERATOR)


def load_adversaries(workdir):
    """Returns the generator, with the last weights instead of the average, and the discriminator of a finished run.

    Raises:
        ValueError: if one cannot be loaded.
    """
    return load_network(workdir, RAW), load_network(workdir, DISCRIMINATOR)


class _Clock:
    """The time of the steps alone: pictures, checkpoints and the first call, which traces the step, are left out."""

    def __init__(self, step):
        self.traced = False
        self._since_log, self._ever = (0, 0.0), (0, 0.0)
        self.start(step)

    def start(self, step):
        self._step, self._began = step, time.perf_counter()

    def stop(self, step):
        self._now = step
        passed = (step - self._step, time.perf_counter() - self._began)
        if not self.traced:
            # What there is until there is better.
            self.traced, self._first = True, passed
            return
        self._since_log, self._ever = (
            (steps + passed[0], seconds + passed[1]) for steps, seconds in (self._since_log, self._ever)
        )

    def steps_per_second(self):
        """Returns the speed since the last call."""
        steps, seconds = self._since_log if self._since_log[0] else self._first
        self._since_log = (0, 0.0)
        return steps / seconds

    def seconds_left(self, last):
        steps, seconds = self._ever if self._ever[0] else self._first
        return (last - self._now) * seconds / steps


def _batches_of_steps(images, recipe):
    """Returns batches of shape (batch_size, discriminator_steps, ...), whose first axis replicas may share."""
    size, updates = recipe.batch_size, recipe.discriminator_steps
    received = images.element_spec.shape
    if received[0] not in (None, size * updates):
        raise ValueError(
            "A batch of real images is for all updates of the discriminator in a step. "
            f"Received: batches of {received[0]} for {updates} updates with {size} images each. "
            f"Pass batches of {size * updates}."
        )
    return images.map(lambda batch: tf.reshape(batch, (size, updates, *batch.shape[1:])))


def _loop(adversaries):
    """Returns the function that takes some steps, on all replicas, and returns the sums of their losses."""
    strategy = tf.distribute.get_strategy()

    @tf.function
    def loop(iterator, count, asked):
        sums = tf.zeros(len(LOGGED), adversaries.dtype)
        for _ in tf.range(count):
            shares = strategy.run(adversaries.step, args=(next(iterator),))
            sums += strategy.reduce("SUM", shares, axis=None)
        # Another process may have been asked to stop.
        return sums, strategy.reduce("SUM", strategy.run(tf.identity, args=(asked,)), axis=None)

    return loop


def _check_finite(losses, adversaries, lessons, checkpoints, remedy):
    bad = [(name, value) for name, value in zip(LOGGED, losses) if not np.isfinite(value)]
    if not bad:
        return
    scales = "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in adversaries.loss_scales().items())
    step = int(ops.convert_to_numpy(adversaries.first_bad_step))
    found = alone(_first_not_finite, adversaries, lessons, step - 1) if step and is_chief() else None
    place = f"; there, {found}" if found else ""
    name, value = bad[0]
    raise Divergence(
        "error: A training ends when a loss is not finite. "
        f"Received: {name.replace('_', ' ')} {value}, first in step {step:,}{scales}{place}. "
        f"{kept(checkpoints)} {remedy}"
    )


def _first_not_finite(adversaries, lessons, step):
    """Returns where the numbers of a step stopped being finite, with the weights as they were before its last update.

    Looks at the generator with the latents of the step first, then at the discriminator with its real images.
    """
    recipe = adversaries.recipe
    for purpose in range(recipe.discriminator_steps + 1):
        size = recipe.batch_size if purpose < recipe.discriminator_steps else recipe.generator_batch
        latents = adversaries.latents(step, purpose, size)
        found = first_bad_number(adversaries.generator, latents)
        if found:
            return f"in the generator, {found}"
    (real,) = lessons.images(step).take(1)
    images = [
        tf.cast(real, adversaries.dtype),
        tf.cast(adversaries.generator(latents, training=True), adversaries.dtype),
    ]
    for kind, batch in zip(("real", "fake"), images):
        found = first_bad_number(adversaries.discriminator, batch)
        if found:
            return f"in the discriminator of {kind} images, {found}"
    return None
