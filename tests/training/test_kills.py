"""A training that is killed at any moment goes on as if nothing had been, bit for bit."""

import csv
import random
import time

import keras
import numpy as np
import pytest

import pinets_tf  # noqa: F401  registers the layers of the saved model
from tests.commands import run

EPOCHS = 40
OPTIONS = ["--width=4", "--stage_blocks=1,1", "--batch_size=8", f"--epochs={EPOCHS}", "--xla=off", "--deterministic"]
KILLS = 20


def outcome(folder):
    """Returns the weights of a finished run and the rows of its history without what is measured."""
    with (folder / "history.csv").open(newline="") as file:
        rows = [{name: row[name] for name in row if name != "images_per_second"} for row in csv.DictReader(file)]
    return keras.models.load_model(folder / "model.keras").get_weights(), rows


@pytest.mark.long
def test_killed_at_random_moments(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (64, 8, 8, 3)).astype("uint8") for name in ("x_train", "x_test")}
    np.savez(tmp_path / "set.npz", **arrays, y_train=np.arange(64) % 3, y_test=np.arange(64) % 3)
    command = ["examples/cifar_linear.py", f"--dataset={tmp_path / 'set.npz'}", *OPTIONS]
    began = time.perf_counter()
    run(*command, f"--workdir={tmp_path / 'whole'}")
    seconds, moments, finished, killed = time.perf_counter() - began, random.Random(0), [tmp_path / "run"], 0
    while killed < KILLS:
        done = run(*command, f"--workdir={tmp_path / 'run'}", kill_after=moments.uniform(0.3, seconds), check=False)
        assert done.returncode in (-9, 0) and "Traceback" not in done.stderr, done.stderr
        killed += done.returncode == -9
        if done.returncode == 0:  # It came to its end, and the next one starts anew.
            finished.append((tmp_path / "run").rename(tmp_path / f"finished-{len(finished)}"))
    run(*command, f"--workdir={tmp_path / 'run'}")
    weights, rows = outcome(tmp_path / "whole")
    assert [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(EPOCHS)]
    for folder in finished:
        found, found_rows = outcome(folder)
        assert found_rows == rows
        for value, expected in zip(found, weights):
            np.testing.assert_array_equal(value, expected)


GAN_STEPS = 60
GAN_OPTIONS = [
    "--size=32",
    f"--steps={GAN_STEPS}",
    "--width=0.05",
    "--discriminator_width=4",
    "--batch_size=4",
    "--generator_batch_size=4",
    "--log_every=5",
    "--sample_every=4",
    "--checkpoint_every=3",
    "--average=0.9",
    "--xla=off",
    "--deterministic",
]


@pytest.mark.long
def test_a_gan_killed_at_random_moments(tmp_path):
    """Also while a picture of samples is drawn or a checkpoint is written: both take up most of this run."""
    command = ["examples/fashion_mnist_gan.py", *GAN_OPTIONS]
    began = time.perf_counter()
    run(*command, f"--workdir={tmp_path / 'whole'}")
    seconds, moments, killed = time.perf_counter() - began, random.Random(1), 0
    folder = tmp_path / "run"
    while killed < KILLS:
        done = run(*command, f"--workdir={folder}", kill_after=moments.uniform(0.3, seconds), check=False)
        assert done.returncode in (-9, 0) and "Traceback" not in done.stderr, done.stderr
        killed += done.returncode == -9
        if done.returncode == 0:
            assert_same_gan(folder, tmp_path / "whole")
            folder.rename(tmp_path / f"finished-{killed}-{len(list(tmp_path.iterdir()))}")
    run(*command, f"--workdir={folder}")
    assert_same_gan(folder, tmp_path / "whole")


def assert_same_gan(folder, whole):
    """Asserts that two finished runs have the same networks, history and pictures, bit for bit."""
    for name in ("generator.keras", "generator_raw.keras", "discriminator.keras"):
        for value, expected in zip(*(keras.models.load_model(one / name).get_weights() for one in (folder, whole))):
            np.testing.assert_array_equal(value, expected)
    rows = []
    for one in (folder, whole):
        with (one / "history.csv").open(newline="") as file:
            rows.append([{k: row[k] for k in row if k != "images_per_second"} for row in csv.DictReader(file)])
    assert rows[0] == rows[1] and len(rows[0]) == GAN_STEPS // 5
    for picture in (whole / "samples").iterdir():
        assert (folder / "samples" / picture.name).read_bytes() == picture.read_bytes()
