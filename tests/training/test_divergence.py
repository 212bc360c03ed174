"""A loss that is not finite ends a training in words, or lets it go on from its last state with a smaller rate."""

import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from pinets_tf import training
from pinets_tf.layers import NCP
from pinets_tf.training import fitting

STEPS, EPOCHS = 3, 3


def lessons(scale_of_step):
    """Batches of four samples, the inputs of each step with a factor of their own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * EPOCHS, 4, 5)).astype("float32") * np.reshape(scale_of_step, (-1, 1, 1))
    samples = tf.data.Dataset.from_tensor_slices((x.astype("float32"), rng.integers(0, 3, (STEPS * EPOCHS, 4))))
    few = samples.take(1)
    return training.Lessons(lambda epoch: samples.skip(epoch * STEPS), lambda: STEPS, 4, validation=few, test=few)


def network():
    keras.utils.set_random_seed(1)
    polynomial = NCP(3, 3, rank=4, name="ncp")
    return keras.Sequential([keras.Input((5,)), polynomial, keras.layers.Activation("linear", dtype="float32")])


def fit(model, material, workdir, rate=0.01, **options):
    return fitting.fit_network(
        model,
        training.CoupledSGD(rate, momentum=0.0),
        material,
        workdir,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[],
        epochs=EPOCHS,
        xla="off",
        columns=["loss"],
        title="tiny",
        remedy="Lower the rate.",
        **options,
    )


@pytest.mark.parametrize("strategy", ["none", pytest.param("mirrored", marks=pytest.mark.long)])
@pytest.mark.parametrize("precision, large", [("float32", 1e14), ("mixed_float16", 2e3)])
def test_step_layer_order_and_scale_are_named(tmp_path, strategy, precision, large):
    scales = np.ones(STEPS * EPOCHS)
    scales[4:] = large
    with training.set_up(strategy, precision).scope():
        model = network()
        with pytest.raises(training.Divergence) as ended:
            fit(model, lessons(scales), tmp_path)
    said = str(ended.value)
    assert said.startswith(
        "error: A training ends when its loss or its gradient is not finite. Received: that of step 2 of 3 of epoch 2"
    )
    assert ("loss scale 32768; there" in said) == (precision == "mixed_float16")
    assert "of order" in said and "layer ncp is the first number that is not finite" in said
    assert said.endswith(f"Kept: {tmp_path / 'checkpoint.npz'}. Lower the rate.")
    # Nothing was learned from that step on, and the last whole epoch can be gone on from.
    assert all(np.isfinite(keras.ops.convert_to_numpy(value)).all() for value in model.trainable_variables)
    assert fit(network(), lessons(np.ones(STEPS * EPOCHS)), tmp_path)["epochs"] == EPOCHS


@pytest.fixture
def values():
    """Flags of a run, as a script would have parsed them."""
    own = flags.FlagValues()
    for name, value in {
        "strategy": "none",
        "precision": "float32",
        "seed": 1,
        "deterministic": False,
        "xla": "off",
        "worker_timeout": 1.0,
        "eval_only": False,
        "learning_rate": 0.01,
        "epochs": EPOCHS,
        "rollbacks": 0,
        "rollback_factor": 0.1,
    }.items():
        _define(value)(name, value, "", flag_values=own)
    own(["script"])
    return own


def _define(value):
    return {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[
        type(value)
    ]


def test_rollbacks_go_on_with_a_smaller_rate(tmp_path, values, monkeypatch, capsys):
    monkeypatch.setattr("absl.flags.FLAGS", values)
    monkeypatch.setattr(fitting, "configuration", dict)
    rates = []

    def fit_until(model, rate, material):
        # The data grow with the rate, so that the second try is the first that ends.
        rates.append(rate)
        scales = np.ones(STEPS * EPOCHS)
        scales[4] = 1e14 if rate > 2e-4 else 1.0
        return fit(model, lessons(scales), tmp_path, rate)

    def run():
        return fitting.run(
            tmp_path,
            lambda: lessons(np.ones(STEPS * EPOCHS)),
            lambda material: network(),
            load=None,
            optimizer=lambda model, steps: values.learning_rate,
            fit=fit_until,
            evaluate=None,
            title="tiny",
            facts={},
        )

    with pytest.raises(training.Divergence):
        run()
    values.rollbacks = 1
    with pytest.raises(training.Divergence):
        run()
    assert rates == [0.01, 0.01, pytest.approx(0.001)] and values.learning_rate == 0.01
    assert len(json.loads((tmp_path / "rollbacks.json").read_text())) == 1
    # Started again it has the lower rate, and may lower it once more.
    values.rollbacks = 2
    assert run()["epochs"] == EPOCHS
    assert rates[3:] == [pytest.approx(0.001), pytest.approx(0.0001)]
    assert "rollback 2 of 2: learning rate 0.0001" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "rollbacks.json").read_text())) == 2


class Root(keras.layers.Layer):
    """Adds the root of a weight, which is not zero after the first step; its slope at zero is not finite."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")

    def call(self, x):
        return x + keras.ops.sqrt(self.scale)


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_a_gradient_that_is_not_finite_leaves_the_weights(tmp_path, strategy):
    with training.set_up(strategy).scope():
        inner = network()
        model = keras.Sequential([keras.Input((5,)), inner, Root()])
        before = model.get_weights()
        with pytest.raises(training.Divergence, match=r"or its gradient is not finite\. Received: that of step 1"):
            fit(model, lessons(np.ones(STEPS * EPOCHS)), tmp_path)
    for value, expected in zip(model.get_weights(), before):
        np.testing.assert_array_equal(value, expected)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_fit_shows_a_gradient_that_is_not_finite():
    model = training.ReplicaModel(keras.Sequential([keras.Input((5,)), network(), Root()]))
    model.compile(keras.optimizers.SGD(0.01), loss=training.crossentropy())
    history = model.fit(lessons(np.ones(STEPS * EPOCHS)).training(0), verbose=0).history
    assert np.isnan(history["loss"]).all()


def test_statistics_that_are_not_finite_are_not_saved(tmp_path):
    """Those of the last batch before a checkpoint: its loss is finite, since the batch has statistics of its own."""
    scales = np.ones(STEPS * EPOCHS)
    scales[2 * STEPS - 1] = 1e30
    model = keras.Sequential([keras.Input((5,)), keras.layers.BatchNormalization(), network()])
    words = rf"holds finite numbers\. Received: the model after epoch 2, .* is kept: {tmp_path}/checkpoint\.npz\. Lower"
    with pytest.raises(training.Divergence, match=words):
        fit(model, lessons(scales), tmp_path)
    with np.load(tmp_path / "checkpoint.npz") as kept:
        assert all(np.isfinite(kept[name]).all() for name in kept.files)


def test_a_signal_in_the_step_that_fails_saves_nothing(heard, tmp_path, monkeypatch):
    scales = np.ones(STEPS * EPOCHS)
    scales[4] = 1e14
    step = iter(range(100))

    def begin(self, batch, logs=None):
        if next(step) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.Progress, "on_train_batch_begin", begin)
    with pytest.raises(training.Divergence, match="that of step 2 of 3 of epoch 2"):
        fit(network(), lessons(scales), tmp_path)
    with np.load(tmp_path / "checkpoint.npz") as kept:
        assert STEPS in [kept[name] for name in kept.files if kept[name].shape == ()]
