"""A training that is killed at any moment goes on as if nothing had been, bit for bit."""

import csv
import random

import keras
import numpy as np
import pytest

import pinets_tf  # noqa: F401  registers the layers of the saved model
from tests.commands import run

OPTIONS = ["--width=4", "--stage_blocks=1,1", "--batch_size=8", "--epochs=12", "--xla=off", "--deterministic"]
KILLS = 20


def outcome(folder):
    """Returns the weights of a finished run and the rows of its history without what is measured."""
    with (folder / "history.csv").open(newline="") as file:
        rows = [{name: row[name] for name in row if name != "images_per_second"} for row in csv.DictReader(file)]
    return keras.models.load_model(folder / "model.keras").get_weights(), rows


@pytest.mark.long
@pytest.mark.parametrize("how_long", [(0.5, 8.0), (4.0, 6.0)], ids=["from the start", "in training"])
def test_killed_at_random_moments(tmp_path, how_long):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (64, 8, 8, 3)).astype("uint8") for name in ("x_train", "x_test")}
    np.savez(tmp_path / "set.npz", **arrays, y_train=np.arange(64) % 3, y_test=np.arange(64) % 3)
    command = ["examples/cifar_linear.py", f"--dataset={tmp_path / 'set.npz'}", *OPTIONS]
    run(*command, f"--workdir={tmp_path / 'whole'}")
    moments, statuses = random.Random(0), []
    for _ in range(KILLS):
        done = run(*command, f"--workdir={tmp_path / 'run'}", kill_after=moments.uniform(*how_long), check=False)
        statuses.append(done.returncode)
        assert done.returncode in (-9, 0), done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode == 0:  # It came to its end: the next ones start anew.
            (tmp_path / "run").rename(tmp_path / f"finished-{len(statuses)}")
    assert statuses.count(-9) >= KILLS / 2
    run(*command, f"--workdir={tmp_path / 'run'}")
    weights, rows = outcome(tmp_path / "whole")
    for folder in [tmp_path / "run", *tmp_path.glob("finished-*")]:
        found, found_rows = outcome(folder)
        assert found_rows == rows and [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(12)]
        for value, expected in zip(found, weights):
            np.testing.assert_array_equal(value, expected)
