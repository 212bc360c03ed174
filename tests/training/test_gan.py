"""Two networks against each other: losses, steps, averages, replicas, checkpoints, and the loop around them."""

import csv
import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pinets_tf import training
from pinets_tf.layers.generation.fade import Fade
from pinets_tf.training import gan_flags
from pinets_tf.training.gan import GanLessons, Samples, fit_gan, load_generator, run_gan
from pinets_tf.training.gan_average import copy_network, decay_at, settle_statistics, update_average
from pinets_tf.training.gan_checkpoints import GanCheckpoints
from pinets_tf.training.gan_flags import gan_optimizers
from pinets_tf.training.gan_losses import LOSSES, with_r1
from pinets_tf.training.gan_step import LOGGED, Adversaries, GanRecipe
from pinets_tf.training.shares import apply_gradients

RNG = np.random.default_rng(0)
REAL = RNG.uniform(-1, 1, (48, 4, 4, 1)).astype("float32")


@keras.saving.register_keras_serializable(package="test")
class NormedDense(keras.layers.Layer):
    """Divides a kernel by its largest singular value, which a vector follows in training, as the SNGAN rule does."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 6), name="kernel")
        self.u = self.add_weight(shape=(6,), initializer="ones", trainable=False, autocast=False, name="u")

    def call(self, x, training=None):
        kernel = ops.cast(self.kernel, "float32")
        v = ops.normalize(ops.matmul(kernel, self.u), axis=-1)
        u = ops.normalize(ops.matmul(v, kernel), axis=-1)
        if training:
            self.u.assign(u)
        u, v = ops.stop_gradient(u), ops.stop_gradient(v)
        sigma = ops.sum(v * ops.matmul(kernel, u))
        return ops.matmul(x, ops.cast(kernel / sigma, x.dtype))


def networks(noise=False, batch=False, fade=False):
    keras.utils.set_random_seed(1)
    z = keras.Input((3,))
    x = keras.layers.Dense(16)(z)
    x = keras.layers.BatchNormalization(momentum=0.5)(x) if batch else x
    x = keras.layers.GaussianNoise(0.1, seed=3)(x) if noise else x
    images = keras.layers.Reshape((4, 4, 1))(keras.layers.Activation("tanh")(x))
    generator = keras.Model(z, Fade()([-images, images]) if fade else images)
    x = keras.Input((4, 4, 1))
    y = keras.layers.Dense(8, activation="softplus")(keras.layers.Flatten()(x))
    y = Fade()([-y, y]) if fade else y
    return generator, keras.Model(x, keras.layers.Dense(1)(NormedDense()(y)))


def adversaries(options=None, xla=False, optimizer=None, **kwargs):
    recipe = GanRecipe(**{"steps": 4, "batch_size": 4, "generator_batch_size": 6, **kwargs})
    pair = (optimizer(), optimizer()) if optimizer else gan_optimizers(recipe, learning_rate=0.01)
    return Adversaries(*networks(**(options or {})), recipe, *pair, xla=xla)


def values(variables):
    return [ops.convert_to_numpy(variable) for variable in variables]


def everything(one):
    return {holder: values(variables) for holder, variables in one.state().items()}


def assert_same(got, expected, **tolerance):
    assert got.keys() == expected.keys()
    for holder in got:
        for value, other in zip(got[holder], expected[holder], strict=True):
            np.testing.assert_allclose(value, other, err_msg=holder, **(tolerance or {"rtol": 0}))


def lessons(one):
    size, updates = one.recipe.batch_size, one.recipe.discriminator_steps

    def images(first_step):
        def batch(step):
            return tf.gather(REAL, (step * size * updates + tf.range(size * updates, dtype=tf.int64)) % len(REAL))

        return tf.data.Dataset.range(first_step, 10**9).map(batch)

    return GanLessons(images, steps=lambda: one.recipe.steps)


def draw(images, path):
    assert images.dtype == np.uint8
    path.write_bytes(tf.io.encode_png(images[0]).numpy())
    return images[0]


def fit(one, workdir, **options):
    options = {"log_every": 1, "sample_every": 2, "checkpoint_every": 1, "xla": "off", "samples": 4, **options}
    return fit_gan(one, lessons(one), workdir, draw=draw, **options)


def history(workdir):
    with (workdir / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_losses():
    real, fake = RNG.normal(scale=3, size=(2, 8, 1)).astype("float16")
    wide_real, wide_fake = real.astype("float64"), fake.astype("float64")
    expected = {
        "hinge": (np.maximum(0, 1 - wide_real).mean() + np.maximum(0, 1 + wide_fake).mean(), -wide_fake.mean()),
        "logistic": (
            np.log1p(np.exp(-wide_real)).mean() + np.log1p(np.exp(wide_fake)).mean(),
            np.log1p(np.exp(-wide_fake)).mean(),
        ),
    }
    for name, (of_discriminator, of_generator) in LOSSES.items():
        got = of_discriminator(tf.constant(real), tf.constant(fake)), of_generator(tf.constant(fake))
        assert [loss.dtype for loss in got] == [tf.float32, tf.float32]
        np.testing.assert_allclose(got, expected[name], rtol=1e-6)


def test_r1_of_a_linear_and_a_quadratic_discriminator():
    x, a = RNG.normal(size=(5, 2, 2, 1)), RNG.normal(size=(2, 2, 1))
    wide = tf.constant(x)
    _, _, linear = with_r1(lambda images: (tf.reduce_sum(a * images, [1, 2, 3]), wide), wide, 3.0)
    np.testing.assert_allclose(linear, 1.5 * np.square(a).sum())
    _, _, quadratic = with_r1(lambda images: (tf.reduce_sum(a * images**2, [1, 2, 3])[:, None], wide), wide, 3.0)
    np.testing.assert_allclose(quadratic, 1.5 * np.square(2 * a * x).sum((1, 2, 3)).mean())


def test_updates_leave_the_other_network_alone():
    one = adversaries({"batch": True}, r1=1.0)
    before = everything(one)
    one.update_discriminator(tf.constant(REAL[:4]), tf.constant(0, tf.int64), 0)
    after = everything(one)
    trainable = len(one.generator.trainable_variables)
    moved = [not np.array_equal(a, b) for a, b in zip(after["discriminator"], before["discriminator"])]
    # Kernel and bias of the first layer, kernel and u of the norm, and the last kernel and bias.
    assert all(moved) and len(moved) == 6
    for value, old in zip(values(one.generator.trainable_variables), before["generator"]):
        assert trainable == 4 and value.shape == old.shape
    for variable, old in zip(one.generator.variables, before["generator"]):
        assert variable.trainable == np.array_equal(ops.convert_to_numpy(variable), old)
    one.update_generator(tf.constant(0, tf.int64))
    last = everything(one)
    assert_same({"discriminator": last["discriminator"]}, {"discriminator": after["discriminator"]})
    assert not np.array_equal(last["generator"][0], after["generator"][0])


def test_each_optimizer_counts_its_own_updates():
    one = adversaries(discriminator_steps=3, steps=10)
    for step in range(2):
        one.step(tf.constant(REAL[:12].reshape(4, 3, 4, 4, 1)))
        assert int(one.steps_done) == step + 1
    generator, discriminator = one.optimizers().values()
    assert (int(generator.iterations), int(discriminator.iterations)) == (2, 6)
    # Both have fallen by a fifth of what they started with.
    np.testing.assert_allclose([generator.learning_rate, discriminator.learning_rate], 0.01 * 0.8, rtol=1e-6)


def test_a_seldom_penalty_has_more_weight():
    each, seldom = (adversaries(r1=2.0, r1_every=every, discriminator_steps=2) for every in (1, 4))
    real = tf.constant(REAL[:8].reshape(4, 2, 4, 4, 1))
    step = tf.constant(2, tf.int64)
    always = [float(each.update_discriminator(real[:, 0], step, update)[1]) for update in (0, 1)]
    sometimes = [float(seldom.update_discriminator(real[:, 0], step, update)[1]) for update in (0, 1)]
    np.testing.assert_allclose(sometimes, [4 * always[0], 0], rtol=1e-5)


def test_latents_depend_on_seed_step_and_purpose():
    one = adversaries(latents="uniform")
    drawn = one.latents(5, 0, 1000)
    assert drawn.shape == (1000, 3) and float(tf.reduce_min(drawn)) < -0.9 and float(tf.reduce_max(drawn)) > 0.9
    np.testing.assert_array_equal(drawn, adversaries(latents="uniform").latents(5, 0, 1000))
    others = [
        one.latents(6, 0, 1000),
        one.latents(5, 1, 1000),
        adversaries(latents="uniform", seed=1).latents(5, 0, 1000),
    ]
    assert all(np.abs(np.corrcoef(np.ravel(drawn), np.ravel(other))[0, 1]) < 0.1 for other in others)
    assert abs(float(tf.math.reduce_std(adversaries().latents(5, 0, 1000))) - 1) < 0.1
    two = {"a": keras.Input((2,), name="a"), "b": keras.Input((3, 1), name="b")}
    generator = keras.Model(
        two, keras.layers.Reshape((1, 1, 2))(two["a"]) + keras.layers.Flatten()(two["b"])[:, None, None, :2]
    )
    recipe = GanRecipe(steps=1)
    several = Adversaries(generator, networks()[1], recipe, *gan_optimizers(recipe))
    shapes = {name: tuple(part.shape) for name, part in several.latents(0, 0, 4).items()}
    assert shapes == {"a": (4, 2), "b": (4, 3, 1)}


def test_the_average_normalises_as_the_network():
    normalization = keras.layers.Normalization()
    normalization.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
    network = keras.Sequential([keras.Input((2,)), normalization])
    np.testing.assert_allclose(copy_network(network)(np.array([[3.0, 10.0]])), [[1.0, -1.0]], rtol=1e-6)


def test_average():
    network = networks(noise=True, batch=True)[0]
    average = copy_network(network)
    start = values(average.variables)
    for variable in network.variables:
        variable.assign(ops.ones(variable.shape, variable.dtype))
    update_average(average, network, 0.75)
    for value, old in zip(values(average.variables), start):
        integers = np.issubdtype(value.dtype, np.integer)
        np.testing.assert_allclose(value, old if integers else 0.75 * old + 0.25, rtol=1e-6)
    # Two layers, a batch normalisation with its statistics, and the state of the noise, not shared.
    assert len(start) == 7 and not {map(id, average.variables)} & {map(id, network.variables)}
    assert [float(decay_at(step, 0.5, True)) for step in (0, 4, 100)] == pytest.approx([0.1, 5 / 14, 0.5])
    assert decay_at(7, 0.999, False) == 0.999


def test_settled_statistics_are_those_of_the_weights():
    generator = networks(noise=True, batch=True)[0]
    batches = [tf.constant(RNG.normal(size=(64, 3)).astype("float32")) for _ in range(3)]
    dense, normalization = generator.layers[1], generator.layers[2]
    normalization.moving_variance.assign(ops.full((16,), np.inf))
    before = values(generator.trainable_variables), values(generator.variables)[-1]
    settle_statistics(generator, batches)
    outputs = [np.asarray(dense(batch)) for batch in batches]
    np.testing.assert_allclose(normalization.moving_mean, np.mean([x.mean(0) for x in outputs], 0), atol=1e-5)
    np.testing.assert_allclose(normalization.moving_variance, np.mean([x.var(0) for x in outputs], 0), rtol=1e-4)
    assert normalization.momentum == 0.5
    for value, old in zip(
        [*values(generator.trainable_variables), values(generator.variables)[-1]], [*before[0], before[1]]
    ):
        np.testing.assert_array_equal(value, old)
    with pytest.raises(ValueError, match=r"at least one batch\. Received: no batch of latents\. Pass a list"):
        settle_statistics(generator, [])


def test_apart_the_norm_advances_twice():
    for joined, calls in ((True, 1), (False, 2)):
        one = adversaries(joined=joined)
        norm = one.discriminator.layers[-2]
        kernel, u = norm.kernel.numpy(), np.ones(6)
        for _ in range(calls):
            u = kernel.T @ kernel @ u / np.linalg.norm(kernel.T @ kernel @ u)
        one.update_discriminator(tf.constant(REAL[:4]), tf.constant(0, tf.int64), 0)
        np.testing.assert_allclose(norm.u, u, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def two_steps_alone():
    return two_steps(training.set_up("none"), False)[0]


def test_a_picture_changes_nothing(tmp_path):
    one = adversaries({"batch": True, "noise": True})
    before = everything(one)
    gallery = Samples(one, tmp_path, draw, 3, settle=2)
    pictures = [gallery.draw(step) for step in (0, 7)]
    np.testing.assert_array_equal(*pictures)
    assert sorted(path.name for path in tmp_path.glob("samples/*")) == ["step_0000000.png", "step_0000007.png"]
    assert_same(everything(one), before)
    gallery.settle()
    assert not np.array_equal(everything(one)["average"][4], before["average"][4])


def two_steps(strategy, xla):
    with strategy.scope():
        options = {"discriminator_steps": 2, "r1": 1.0, "r1_every": 2, "average": 0.9, "fade_steps": 3}
        # Adam would divide the differences of tiny gradients by themselves.
        sgd = lambda: keras.optimizers.SGD(0.1, momentum=0.5)  # noqa: E731
        one = adversaries({"fade": True}, xla=xla, optimizer=sgd, **options)
    batches = lessons(one).images(0).map(lambda batch: tf.reshape(batch, (4, 2, 4, 4, 1)))
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    step = tf.function(lambda images: strategy.run(one.step, args=(images,)))
    for _ in range(2):
        shares = step(next(iterator))
    losses = strategy.reduce("SUM", shares, axis=None)
    return {**everything(one), "losses": [np.asarray(losses)]}, one


@pytest.mark.parametrize("xla", [False, pytest.param(True, marks=pytest.mark.long)], ids=["graph", "xla"])
def test_two_replicas_equal_one(xla, two_steps_alone):
    got, one = two_steps(training.set_up("mirrored"), xla)
    assert_same(got, two_steps_alone, rtol=1e-5, atol=1e-5)
    for variable in [*one.generator.variables, *one.discriminator.variables, *one.average.variables]:
        first, second = variable.value.values
        np.testing.assert_allclose(first, second, rtol=1e-6)


@pytest.mark.parametrize(
    ("precision", "strategy", "xla"), [("mixed_float16", "none", "on"), ("mixed_bfloat16", "mirrored", "off")]
)
def test_mixed_precision(precision, strategy, xla, tmp_path):
    with training.set_up(strategy, precision).scope():
        one = adversaries({"batch": True, "noise": True}, steps=2, r1=0.1)
        before = values(one.generator.trainable_variables)
        fit(one, tmp_path, xla=xla)
    rows = history(tmp_path)
    assert [row["step"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(row[name])) for row in rows for name in LOGGED)
    scale = "32768" if precision == "mixed_float16" else None
    assert [rows[0].get(f"{name}_scale") for name in ("generator", "discriminator")] == [scale, scale]
    assert rows[0].get("generator_skipped_steps") == (scale and "0")
    for value, old in zip(values(one.generator.trainable_variables), before):
        assert value.dtype == np.float32 and not np.array_equal(value, old)


def test_networks_that_grow_go_over_with_the_real_images():
    one = adversaries({"fade": True}, fade_steps=2)
    fades = [layer for network in (one.generator, one.discriminator, one.average) for layer in network.layers]
    fades = [layer for layer in fades if isinstance(layer, Fade)]
    real, seen = REAL[:4], []

    def discriminate(images, latents):
        seen.append(images)
        return 0.0, 0.0, [tf.zeros_like(variable) for variable in one.discriminator.trainable_variables]

    for step, alpha in enumerate((0.5, 1.0, 1.0)):
        one.step(tf.constant(real[:, None]))
        assert [float(layer.alpha) for layer in fades] == [alpha] * 3
        one.update_discriminator(tf.constant(real), tf.constant(step, tf.int64), 0, discriminate, discriminate)
        halves = real.reshape(4, 2, 2, 2, 2, 1).mean(axis=(2, 4), keepdims=True)
        doubled = np.broadcast_to(halves, (4, 2, 2, 2, 2, 1)).reshape(real.shape)
        np.testing.assert_allclose(seen[-1], (1 - alpha) * doubled + alpha * real, atol=1e-6)


def test_an_infinite_gradient_of_any_replica_skips_the_step():
    with training.set_up("mirrored", "mixed_float16").scope():
        one = adversaries(steps=2)
    strategy = one.generator_optimizer._distribution_strategy
    before = everything(one)

    @tf.function
    def apply():
        def replica():
            here = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradients = [tf.where(here == 1, np.inf, tf.ones(v.shape)) for v in one.generator.trainable_variables]
            apply_gradients(one.generator_optimizer, gradients, one.generator.trainable_variables, tf.constant(True))

        strategy.run(replica)

    apply()
    one.steps_done.assign(1)
    assert one.skipped_steps() == {"generator_skipped_steps": 1, "discriminator_skipped_steps": 1}
    one.steps_done.assign(0)
    after = everything(one)
    assert_same({"generator": after["generator"]}, {"generator": before["generator"]})
    assert one.loss_scales() == {"generator_scale": 2.0**14, "discriminator_scale": 2.0**15}


def test_resumed_equals_uninterrupted(heard, tmp_path, capsys):
    options = {"noise": True, "batch": True}
    numbers = {"discriminator_steps": 2, "r1": 0.5, "r1_every": 3, "average_warm_up": True}
    # A log at every third step, so that the run goes on in the middle of an interval.
    intervals = {"log_every": 3, "checkpoint_every": 2, "steps_per_loop": 2, "settle": 1, "title": "tiny"}
    whole = adversaries(options, **numbers)
    result = fit(whole, tmp_path / "whole", **intervals)
    assert (result["steps"], result["parameters"]) == (4, whole.generator.count_params())
    assert result["images_per_second"] > 0 and result["seconds"] > 0

    def stopped(images, path):
        if path.stem == "step_0000002":
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(images, path)

    first = adversaries(options, **numbers)
    with pytest.raises(SystemExit) as ended:
        fit_gan(first, lessons(first), tmp_path / "run", draw=stopped, **{"sample_every": 2, "xla": "off", **intervals})
    assert ended.value.code == 143
    assert "SIGTERM: the state after step 3 of 4 is saved" in capsys.readouterr().out

    def killed(images, path):
        if path.stem == "step_0000004":
            raise KeyboardInterrupt
        return draw(images, path)

    first = adversaries(options, **numbers)
    with pytest.raises(KeyboardInterrupt):
        fit_gan(first, lessons(first), tmp_path / "run", draw=killed, **{"sample_every": 2, "xla": "off", **intervals})
    # The row of step 4 is ahead of the checkpoint of step 3.
    assert [row["step"] for row in history(tmp_path / "run")] == ["3", "4"]
    second = adversaries(options, **numbers)
    fit(second, tmp_path / "run", **intervals)
    assert_same(everything(second), everything(whole))
    rows, expected = history(tmp_path / "run"), history(tmp_path / "whole")
    for row in [*rows, *expected]:
        assert float(row.pop("images_per_second")) > 0
    assert rows == expected and [row["step"] for row in rows] == ["3", "4"]
    names = {path.name for path in (tmp_path / "run").iterdir()}
    saved = {"generator.keras", "generator_raw.keras", "discriminator.keras"}
    assert names == saved | {"history.csv", "curves.png", "samples", "checkpoints", "tensorboard"}
    samples = [sorted(path.name for path in (tmp_path / run / "samples").iterdir()) for run in ("run", "whole")]
    assert samples[0] == samples[1] and len(samples[0]) == 2
    # The last two, of which the interruption wrote one.
    saved = [sorted(path.name for path in (tmp_path / run / "checkpoints").iterdir()) for run in ("run", "whole")]
    assert saved == [["step_000000003.npz", "step_000000004.npz"], ["step_000000002.npz", "step_000000004.npz"]]
    for name in ("step_0000002.png", "step_0000004.png"):
        pictures = [(tmp_path / run / "samples" / name).read_bytes() for run in ("run", "whole")]
        assert pictures[0] == pictures[1]
    z = second.latents(0, 0, 2)
    np.testing.assert_array_equal(load_generator(tmp_path / "run")(z), load_generator(tmp_path / "whole")(z))


def test_checkpoint_that_does_not_load(tmp_path):
    one = adversaries()
    checkpoints = GanCheckpoints(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for step in (1, 2, 3):
        checkpoints.save(one, step, np.zeros(3))
    assert [path.name for path in checkpoints.files()] == ["step_000000002.npz", "step_000000003.npz"]
    with pytest.raises(ValueError, match=r"must fit its networks\. .*step_000000003\.npz, .* instead of .*Delete the"):
        checkpoints.restore(adversaries({"batch": True}))
    checkpoints.files()[-1].write_bytes(b"not an archive")
    with pytest.raises(
        ValueError, match=r"goes on from the last checkpoint.*cannot be loaded.*go on from the one before"
    ):
        checkpoints.restore(one)
    checkpoints.files()[-1].unlink()
    assert checkpoints.restore(one)[1].shape == (3,)


def test_checkpoints_of_replicas(tmp_path):
    with training.set_up("mirrored").scope():
        one, other = adversaries({"batch": True}), adversaries({"batch": True})
        one.steps_done.assign(2)
        for variable in one.generator.trainable_variables:
            variable.assign(variable + 1)
        checkpoints = GanCheckpoints(tmp_path)
        checkpoints.save(one, 2, np.arange(3.0))
        step, pending = checkpoints.restore(other)
    assert step == 2 and pending.tolist() == [0, 1, 2]
    assert_same(everything(other), everything(one))


def test_divergence(tmp_path):
    one = adversaries(steps=3)
    good = lessons(one)

    def images(first_step):
        return good.images(first_step).enumerate(first_step).map(lambda i, batch: batch if i < 2 else batch * np.nan)

    message = r"error: A training ends when a loss is not finite\. Received: discriminator loss nan, first in step 3"
    message += r"; there, in the discriminator of real images, the input .*not finite.*"
    message += r"\. The last good state is kept: .*step_000000002\.npz\. Lower the rate\."
    options = {"log_every": 1, "sample_every": 5, "checkpoint_every": 1, "xla": "off"}
    with pytest.raises(training.Divergence, match=message):
        fit_gan(one, GanLessons(images, good.steps), tmp_path, draw=draw, remedy="Lower the rate.", **options)
    assert [row["step"] for row in history(tmp_path)] == ["1", "2"] and not list(tmp_path.glob("*.keras"))
    # Not trained with what is not finite.
    assert all(np.isfinite(value).all() for value in map(ops.convert_to_numpy, one.generator.trainable_variables))
    one.generator.trainable_variables[0].assign(one.generator.trainable_variables[0] * np.nan)
    with pytest.raises(training.Divergence, match=r"holds finite numbers.*the generator after step 3.*step_000000002"):
        GanCheckpoints(tmp_path).save(one, 3, np.zeros(3))


def test_xla_is_chosen_by_measurement_and_leaves_the_variables():
    one = adversaries({"batch": True, "noise": True}, r1=1.0)
    before = everything(one)
    line = one.resolve_xla("auto", tf.constant(REAL[:4]))
    assert line.startswith(f"XLA {'on' if one.xla else 'off'} (measured ") and "images/s with" in line
    assert_same(everything(one), before)
    assert (one.resolve_xla("on", None), one.xla) == ("XLA on (as asked)", True)
    with pytest.raises(ValueError, match=r"`xla` must be one of 'auto'.*Received: xla='yes'"):
        one.resolve_xla("yes", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mse"}, r"`loss` must be one of 'hinge', 'logistic'\. Received: loss='mse'"),
        ({"latents": "cauchy"}, r"`latents` must be one of 'normal', 'uniform'\. Received: latents='cauchy'"),
        ({"batch_size": 0}, r"`batch_size` must be a positive integer\. Received: batch_size=0\. Pass 1 or more"),
        ({"r1": -1.0}, r"`r1` must be 0 or more\. Received: r1=-1\.0\. Pass for example 10"),
        ({"fade_steps": 2}, r"before the training does, or with it\. Received: fade_steps=2 in 1 steps\. Pass fewer"),
        ({"average": 1.0}, r"`average` is a decay of at least 0 and less than 1\. Received: average=1\.0\. Pass"),
    ],
)
def test_recipe_errors(options, message):
    with pytest.raises(ValueError, match=message):
        GanRecipe(steps=1, **options)


def test_errors_of_networks_and_images(tmp_path):
    recipe = GanRecipe(steps=1, batch_size=3)
    with (
        training.set_up("mirrored").scope(),
        pytest.raises(
            ValueError, match=r"same share of a batch\. Received: batch_size=3 for 2 replicas\. Pass a multiple of 2"
        ),
    ):
        Adversaries(*networks(), recipe, *gan_optimizers(recipe))
    with pytest.raises(ValueError, match=r"functional Keras model.*Received: <Dense.*Pass keras\.Model"):
        Adversaries(keras.layers.Dense(1), networks()[1], recipe, *gan_optimizers(recipe))
    with pytest.raises(ValueError, match=r"networks that grow\. Received: fade_steps=1 for .* 2 do not\. Pass those"):
        adversaries(fade_steps=1)
    one = adversaries(discriminator_steps=2)
    few = GanLessons(lambda step: lessons(one).images(step).unbatch().batch(6, drop_remainder=True), lambda: 4)
    with pytest.raises(ValueError, match=r"batches of 6 for 2 updates with 4 images each\. Pass batches of 8"):
        fit_gan(one, few, tmp_path, draw=draw)
    with pytest.raises(ValueError, match=r"`log_every` must be a positive integer\. Received: log_every=0"):
        fit(one, tmp_path, log_every=0)
    with pytest.raises(ValueError, match=r"generator\.keras that loads\. Received: .*Run the training again"):
        load_generator(tmp_path)


@pytest.fixture
def command(monkeypatch):
    """Parses flags as a script that has those of `define_run_flags` and `define_gan_flags`."""
    from absl.flags import FLAGS

    before = set(FLAGS)
    monkeypatch.setattr("sys.argv", [__name__])
    training.define_run_flags()
    gan_flags.define_gan_flags(steps=2, batch_size=4, generator_batch_size=6, log_every=1)

    def parse(*arguments):
        FLAGS.unparse_flags()
        FLAGS([__name__, *arguments])

    yield parse
    for name in set(FLAGS) - before:
        delattr(FLAGS, name)


def test_run_from_flags(command, tmp_path, capsys):
    def trains(*arguments, size=4):
        command(f"--workdir={tmp_path / 'run'}", "--xla=off", *arguments)
        material = lessons(adversaries(steps=2, batch_size=size))
        return run_gan(
            tmp_path / "run",
            lambda: material,
            lambda material: networks(),
            draw=draw,
            evaluate=lambda generator, material: {"mean": float(ops.mean(generator(np.ones((2, 3)))))},
            title="tiny",
            facts={"network": "tiny"},
        )

    with pytest.raises(SystemExit, match=r"error: Each replica.*batch_size=3 for 2 replicas"):
        trains("--batch_size=3", "--strategy=mirrored")
    assert not (tmp_path / "run").exists()
    result = trains()
    shown = capsys.readouterr().out
    assert "tiny: 64 parameters, 1 x CPU" in shown and "XLA off (as asked)" in shown
    assert "step 1/2  discriminator_loss " in shown and "images/s" in shown and "left" in shown
    assert json.loads(shown.splitlines()[-1]) == result
    assert (result["network"], result["steps"]) == ("tiny", 2) and np.isfinite(result["mean"])
    assert "finished: 2 steps" in (trains(), capsys.readouterr().out)[1]
    assert trains("--eval_only")["mean"] == result["mean"]
    with pytest.raises(SystemExit, match=r"r1: 0\.0 there, 1\.0 now"):
        trains("--r1=1")
