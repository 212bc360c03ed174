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
