"""A training that is asked to stop saves its state, and goes on as if nothing had been."""

import csv
import errno
import os
import signal

import keras
import numpy as np
import pytest

from pinets_tf import training
from pinets_tf.data import images
from pinets_tf.models import resnet
from pinets_tf.training import interruption, saved_state
from pinets_tf.training.fitting import fit_network

pytestmark = pytest.mark.usefixtures("heard")


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x_train": (64, 8, 8, 1), "x_test": (16, 8, 8, 1)}
    pixels = {name: rng.integers(0, 256, shape).astype("uint8") for name, shape in arrays.items()}
    np.savez(tmp_path / "set.npz", **pixels, y_train=np.arange(64) % 4, y_test=np.arange(16) % 4)
    return images.load(tmp_path / "set.npz")


def trained(data, workdir):
    """Trains three epochs of four steps in a workdir and returns weights and rows of the history."""
    keras.utils.set_random_seed(1)
    network = resnet((8, 8, 1), 4, stage_blocks=(1,), width=4, preprocessing=keras.layers.Rescaling(1 / 255))
    lessons = training.Lessons(
        lambda epoch: images.training_batches(data, 16, epochs=3, first_epoch=epoch, crop_padding=1, flip=True),
        lambda: 4,
        16,
        images.test_batches(data, 8),
        images.test_batches(data, 8),
    )
    workdir.mkdir(exist_ok=True)
    fit_network(
        network,
        training.CoupledSGD(0.05, l2=1e-3),
        lessons,
        workdir,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        epochs=3,
        xla="off",
        columns=["loss"],
        title="tiny",
        remedy="",
    )
    with (workdir / "history.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert min(row.pop("images_per_second") for row in rows) > 0
    return network.get_weights(), rows


@pytest.fixture
def stop_at(monkeypatch):
    """Returns a function that makes the process send itself a signal in a step, counted from 0 over all epochs."""

    def stop(step, number=signal.SIGTERM):
        count = iter(range(100))

        def begin(self, batch, logs=None):
            if next(count) == step:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(training.Progress, "on_train_batch_begin", begin)

    return stop


def test_interrupted_equals_undisturbed(data, tmp_path, stop_at, capsys):
    weights, rows = trained(data, tmp_path / "whole")
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    for step, number, status, words in (
        (5, signal.SIGTERM, 143, "SIGTERM: the state after step 2 of 4 of epoch 2 is saved"),
        (0, signal.SIGINT, 130, "SIGINT: the state after step 3 of 4 of epoch 2 is saved"),
        (0, signal.SIGTERM, 143, "SIGTERM: the state after epoch 2 is saved"),
    ):
        stop_at(step, number)
        with pytest.raises(SystemExit) as ended:
            trained(data, tmp_path / "run")
        assert ended.value.code == status and words in capsys.readouterr().out
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    stop_at(99)
    again, found = trained(data, tmp_path / "run")
    assert "going on after epoch 2 of 3" in capsys.readouterr().out
    for value, expected in zip(again, weights):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    assert [row["epoch"] for row in found] == [1, 2, 3]
    for row, expected in zip(found, rows):
        assert row == pytest.approx(expected, rel=1e-4)
    assert not list((tmp_path / "run").glob("*partial*"))


def test_a_second_interruption_that_is_cut_off_loses_nothing(data, tmp_path, stop_at, monkeypatch, capsys):
    for stopped_at, room in ((1, True), (0, False)):
        stop_at(stopped_at)
        if not room:
            monkeypatch.setattr(saved_state.os, "replace", no_room)
        with pytest.raises(SystemExit):
            trained(data, tmp_path / "run")
    monkeypatch.undo()
    trained(data, tmp_path / "run")
    assert "going on after step 2 of 4 of epoch 1" in capsys.readouterr().out


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["in the middle", "at the end"])
def test_a_full_disk_loses_nothing(data, tmp_path, monkeypatch, when):
    write = saved_state.np.savez

    def write_a_part(file, **arrays):
        if any(array.shape == () and array == 8 for array in arrays.values()):  # The steps that are done.
            no_room()
        write(file, **arrays)

    if when == "in the middle":
        monkeypatch.setattr(saved_state.np, "savez", write_a_part)
    else:
        monkeypatch.setattr(keras.Model, "save", no_room)
    with pytest.raises(SystemExit, match=r"writes its state.*run, where that failed \(.*No space left.*Make room"):
        trained(data, tmp_path / "run")
    monkeypatch.undo()
    weights, rows = trained(data, tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for value, expected in zip(weights, trained(data, tmp_path / "whole")[0]):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_a_second_signal_ends_at_once():
    with pytest.raises(KeyboardInterrupt), training.Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.received == signal.SIGINT
        # Of another kind, as from a program that was interrupted with this one.
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.long
def test_interrupted_with_replicas(data, tmp_path, stop_at):
    with training.set_up("mirrored").scope():
        weights, rows = trained(data, tmp_path / "whole")
        stop_at(5)
        with pytest.raises(SystemExit):
            trained(data, tmp_path / "run")
        stop_at(99)
        again, found = trained(data, tmp_path / "run")
    for value, expected in zip(again, weights):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for row, expected in zip(found, rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_that_is_ignored_stays_so(number):
    signal.signal(number, signal.SIG_IGN)
    with training.Interruption() as interrupted:
        os.kill(os.getpid(), number)
        assert not interrupted.due and signal.getsignal(number) is signal.SIG_IGN


def test_leaving_says_what_is_saved(capsys):
    with pytest.raises(SystemExit) as ended:
        training.Interruption().leave("the state")
    assert ended.value.code == 143
    assert capsys.readouterr().out.startswith(
        "interrupted by SIGTERM: the state is saved, and the same command goes on"
    )
