"""What the trainers share: the step, the optimizer, checkpoints, workdirs, progress, pictures."""

import csv
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from pinets_tf import training
from pinets_tf.data import images
from pinets_tf.models import resnet
from pinets_tf.training import runtime
from pinets_tf.training.progress import duration


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x_train": (64, 8, 8, 1), "x_test": (16, 8, 8, 1)}
    pixels = {name: rng.integers(0, 256, shape).astype("uint8") for name, shape in arrays.items()}
    np.savez(tmp_path / "set.npz", **pixels, y_train=np.arange(64) % 4, y_test=np.arange(16) % 4)
    return images.load(tmp_path / "set.npz")


def network():
    keras.utils.set_random_seed(1)
    return resnet((8, 8, 1), 4, stage_blocks=(1,), width=4, preprocessing=keras.layers.Rescaling(1 / 255))


def trainer(xla=False, **options):
    model = training.ReplicaModel(network(), xla=xla)
    model.compile(
        training.CoupledSGD(0.05, l2=1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        **options,
    )
    return model


def fit(model, data, epochs=2, first_epoch=0, callbacks=()):
    batches = images.training_batches(data, 16, epochs=epochs, first_epoch=first_epoch, crop_padding=1, flip=True)
    return model.fit(
        batches,
        validation_data=images.test_batches(data, 8),
        initial_epoch=first_epoch,
        epochs=epochs,
        steps_per_epoch=4,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("xla", [False, True])
def test_step_is_that_of_keras(data, xla):
    ours = trainer(xla)
    history = fit(ours, data)
    theirs = network()
    theirs.compile(
        training.CoupledSGD(0.05, l2=1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    expected = fit(theirs, data)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, atol=1e-4)
    for value, other in zip(ours.network.get_weights(), theirs.get_weights()):
        np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("xla", [False, True])
def test_replicas_log_the_loss_of_the_whole_batch(data, xla):
    alone = fit(trainer(xla), data, epochs=1)
    with training.set_up("mirrored").scope():
        model = trainer(xla)
    together = fit(model, data, epochs=1)
    # Batch normalisation sees half a batch on each replica, so the numbers are close, not equal; half would be far off.
    np.testing.assert_allclose(together["loss"], alone["loss"], rtol=0.15)


@pytest.mark.parametrize("precision, xla", [("mixed_float16", True), ("mixed_bfloat16", False)])
def test_mixed_precision_trains_on_replicas(data, precision, xla):
    with training.set_up("mirrored", precision).scope():
        model = trainer(xla)
    history = fit(model, data, epochs=1, callbacks=[training.Progress(1, 4, 16)])
    assert np.isfinite(history["loss"]).all()
    assert ("loss_scale" in history) == ("skipped_steps" in history) == (precision == "mixed_float16")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "mixed_float16")
    keras.config.set_dtype_policy("float32")


def test_xla_is_chosen_by_measurement_and_leaves_the_weights(data):
    model = trainer()
    before = weights(model)
    batch = next(iter(images.training_batches(data, 16, epochs=1)))
    line = model.resolve_xla("auto", batch)
    assert line.startswith(f"XLA {'on' if model.xla else 'off'} (measured ") and "images/s with" in line
    for value, old in zip(weights(model), before):
        np.testing.assert_array_equal(value, old)
    assert (model.resolve_xla("on", batch), model.xla) == ("XLA on (as asked)", True)
    assert (model.resolve_xla("off", batch), model.xla) == ("XLA off (as asked)", False)
    with pytest.raises(ValueError, match=r"`xla` must be one of 'auto', 'on', 'off'\. Received: xla='yes'"):
        model.resolve_xla("yes", batch)


def test_weight_decay_goes_through_the_momentum():
    w, m = np.array([1.0, -2.0], "float32"), np.zeros(2)
    variable = keras.Variable(w)
    optimizer = training.CoupledSGD(0.1, momentum=0.9, l2=0.05)
    for gradient in ([0.5, 0.5], [-1.0, 2.0]):
        optimizer.apply([tf.constant(gradient)], [variable])
        m = 0.9 * m - 0.1 * (np.array(gradient) + 0.05 * w)
        w = w + m
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), w, rtol=1e-6)
    assert training.CoupledSGD.from_config(optimizer.get_config()).l2 == 0.05
    with pytest.raises(ValueError, match=r"`l2` must be 0 or more. Received: l2=-1. Pass a small number"):
        training.CoupledSGD(l2=-1)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"nesterov": True}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_decay_equals_the_sgd_of_keras(options, dtype):
    variables = []
    for optimizer in (training.CoupledSGD(0.1, **options), keras.optimizers.SGD(0.1, **{"momentum": 0.9, **options})):
        variable = keras.Variable(np.ones((4, 2)), dtype=dtype)
        for gradient in (0.5, -1.0, 2.0):
            optimizer.apply([tf.fill((4, 2), tf.constant(gradient, dtype))], [variable])
        rows = tf.IndexedSlices(tf.ones((2, 2), dtype), tf.constant([0, 3]), tf.constant([4, 2]))
        if not options.get("momentum", 1.0):
            optimizer.apply([rows], [variable])
        variables.append(keras.ops.convert_to_numpy(variable))
    np.testing.assert_allclose(*variables, rtol=1e-6)


@pytest.mark.parametrize("xla", [False, True])
def test_every_replica_takes_the_same_steps(xla):
    def trained(strategy):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = training.ReplicaModel(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), xla=xla)
            model.compile(training.CoupledSGD(0.1, l2=0.05), loss="mse")
        rng = np.random.default_rng(0)
        model.fit(rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), batch_size=4, epochs=3, shuffle=False, verbose=0)
        return [*model.trainable_variables, *model.optimizer.momentums]

    alone = trained(training.set_up("none"))
    for variable, other in zip(alone, trained(training.set_up("mirrored"))):
        copies = other.value.values
        assert len(copies) == 2
        for copy in copies:
            np.testing.assert_allclose(copy, variable, rtol=1e-5, atol=1e-6)


def test_resumed_equals_uninterrupted(data, tmp_path):
    whole = trainer()
    fit(whole, data, epochs=3)
    first = trainer()
    checkpoints = training.Checkpoints(tmp_path, steps_per_epoch=4)
    assert checkpoints.restore(first) == 0
    fit(first, data, epochs=2, callbacks=[checkpoints])
    second = trainer()
    checkpoints = training.Checkpoints(tmp_path, steps_per_epoch=4)
    assert checkpoints.restore(second) == 2
    fit(second, data, epochs=3, first_epoch=2, callbacks=[checkpoints])
    assert int(second.steps_done) == 12
    whole.steps_done.assign(12)  # Counted by checkpoints alone.
    for value, expected in zip(weights(second), weights(whole)):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    with (tmp_path / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert not list(tmp_path.glob("*partial*"))


def test_a_history_ahead_of_its_checkpoint_loses_the_extra_row(data, tmp_path):
    checkpoints = training.Checkpoints(tmp_path, steps_per_epoch=4)
    model = trainer()
    checkpoints.restore(model)
    fit(model, data, epochs=1, callbacks=[checkpoints])
    with (tmp_path / "history.csv").open("a") as file:
        file.write("2,0,0,0,0\n")
    again = training.Checkpoints(tmp_path, steps_per_epoch=4)
    assert again.restore(trainer()) == 1
    assert [row["epoch"] for row in again.history] == ["1"]


def test_damaged_checkpoint(tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"must fit its model.*checkpoint.npz, which cannot be.*Delete the file"):
        training.Checkpoints(tmp_path, steps_per_epoch=4).restore(trainer())


def test_workdir_belongs_to_one_configuration(tmp_path):
    folder = training.open_workdir(tmp_path / "run", {"order": 2, "xla": "on"}, may_differ=("xla",))
    assert training.open_workdir(folder, {"order": 2, "xla": "off"}, may_differ=("xla",)) == folder
    with pytest.raises(ValueError, match=r"one configuration.*order: 2 there, 3 now.*Pass another --workdir"):
        training.open_workdir(folder, {"order": 3, "xla": "on"}, may_differ=("xla",))


def test_one_process_writes_into_a_workdir(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "lock").open("w") as other:
        other.write("process 7")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(
            ValueError, match=r"One process writes.*another one is at work \(process 7\)\. Wait for its end"
        ):
            training.open_workdir(tmp_path / "run", {})
    assert not (tmp_path / "run" / "config.json").exists()
    # The lock of another process ends with it; that of this one does not keep itself out.
    assert training.open_workdir(tmp_path / "run", {}) == training.open_workdir(tmp_path / "run", {})
    assert (tmp_path / "run" / "lock").read_text() == f"process {os.getpid()}\n"


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match=r"writes its results.*workdir='.*file/run'.*Pass another folder"):
        training.open_workdir(tmp_path / "file" / "run", {})


def test_progress_reports_speed_and_time_left(data, capsys):
    history = fit(trainer(), data, epochs=2, callbacks=[training.Progress(2, 4, 16)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("epoch 1/2  ") and "images/s" in first and first.endswith("left")
    assert second.endswith("0:00:00 left")
    assert min(history["images_per_second"]) > 0
    assert (duration(59.6), duration(3725)) == ("0:01:00", "1:02:05")


def test_curves(tmp_path, monkeypatch):
    rows = ["epoch,loss,accuracy,val_loss,val_accuracy", "1,2,0.2,2.1,0.1", "2,1,0.5,1.5,0.4"]
    (tmp_path / "history.csv").write_text("\n".join(rows))
    training.draw_curves({"run": tmp_path / "history.csv"}, tmp_path / "curves.png", title="a run")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"drawn with matplotlib.*pip install 'pinets_tf\[examples\]'"):
        training.draw_curves({"run": tmp_path / "history.csv"}, tmp_path / "again.png")


def test_skipped_steps_are_counted(data, tmp_path, capsys):
    training.set_up("none", "mixed_float16")
    model = trainer()
    # Gradients beyond the greatest number of float16, whose steps are skipped.
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(1e9)
    checkpoints = training.Checkpoints(tmp_path, steps_per_epoch=4)
    fit(model, data, epochs=1, callbacks=[training.Progress(1, 4, 16), checkpoints])
    skipped = int(checkpoints.history[0]["skipped_steps"])
    assert 1 <= skipped <= 4 and int(model.optimizer.iterations) == 4 - skipped
    assert float(checkpoints.history[0]["loss_scale"]) == 1e9 / 2**skipped
    assert f"skipped_steps {skipped}" in capsys.readouterr().out
    again = training.Checkpoints(tmp_path, steps_per_epoch=4)
    assert again.restore(trainer()) == 1 and again.first_step == 0


def test_how_a_run_repeats_is_said():
    assert runtime.how_it_repeats(training.set_up("none"), False).endswith("(--deterministic is bit for bit)")
    said = runtime.how_it_repeats(training.set_up("mirrored"), True)
    assert said == "repeats bit for bit; another number of replicas than 2 gives other bits"
    assert runtime.how_it_repeats(training.set_up("none"), True).startswith("repeats bit for bit; replicas or other")


def test_set_up():
    assert training.set_up("mirrored").num_replicas_in_sync == 2
    assert training.set_up("auto", "mixed_bfloat16").num_replicas_in_sync == 1
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert training.describe(training.set_up("none"), "float32").startswith("1 x CPU")
    with pytest.raises(ValueError, match=r"`strategy` must be one of 'auto'.*Received: strategy='tpus'"):
        training.set_up("tpus")
    with pytest.raises(
        ValueError, match=r"A TPU is that of this host.*Received: TPU_NAME=None, .*pass --strategy=auto"
    ):
        training.set_up("tpu")
    with pytest.raises(ValueError, match=r"`precision` must be one of 'float32'.*Received: precision='float8'"):
        training.set_up(precision="float8")
