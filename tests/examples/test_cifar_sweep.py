"""The sweep trains what is missing, keeps what is there, and goes on after failures and interruptions."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.commands import ROOT, call, run

SCRIPT = "examples/cifar_sweep.py"
TINY = ["--width=2", "--batch_size=8", "--epochs=1", "--xla=off"]


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (8, 8, 8, 3)).astype("uint8") for name in ("x_train", "x_test")}
    np.savez(tmp_path / "set.npz", **arrays, y_train=np.arange(8) % 3, y_test=np.arange(8) % 3)
    return tmp_path / "set.npz"


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def finished(folder, blocks, network, seed, dataset="cifar10", **result):
    """Writes what a run leaves behind."""
    place = folder / f"blocks-{blocks}" / f"{network}-seed-{seed}"
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"dataset": dataset, "width": 4, "epochs": 2, "seed": seed}))
    if result:
        (place / "result.json").write_text(json.dumps(result))
    return place


@pytest.mark.parametrize("orders", [[2], pytest.param([1, 2], marks=pytest.mark.long)], ids=len)
def test_orders_and_seeds_and_the_same_command_again(dataset, tmp_path, orders):
    folder, count = tmp_path / "sweep", len(orders)
    command = [
        SCRIPT,
        f"--workdir={folder}",
        f"--orders={','.join(map(str, orders))}",
        "--blocks=1",
        "--seeds=1",
        "--noreference",
    ]
    first = run(*command, "--", f"--dataset={dataset}", *TINY)
    result = json.loads(first.stdout.splitlines()[-1])
    assert (result["trained"], result["failed"]) == (count, 0)
    assert f"run {count} of {count}: blocks 1, order-2, seed 1" in first.stdout and "  epoch 1/1" in first.stdout
    assert "0 failed, 0:00:00 left" in first.stdout
    found = rows(folder)
    assert [(row["network"], row["seed"]) for row in found] == [(f"order-{order}", "1") for order in orders]
    for row in found:
        trained = json.loads((folder / "blocks-1" / f"{row['network']}-seed-{row['seed']}" / "config.json").read_text())
        assert (trained["order"], trained["seed"]) == (int(row["network"][-1]), int(row["seed"]))
        assert trained["stage_blocks"] == ["1"] * 4 and trained["activation"] == "none"
    assert result["accuracy"]["blocks-1/order-2"] == pytest.approx(float(found[-1]["accuracy"]), abs=1e-4)
    assert (folder / "fig8.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.rglob("*.partial"))

    written = {path: path.stat().st_mtime_ns for path in folder.glob("blocks-*/*/*")}
    again = call(*command, "--", f"--dataset={dataset}", *TINY, "--strategy=none")
    assert f"to train: 0 of {count}" in again.stdout and "run 1" not in again.stdout
    assert json.loads(again.stdout.splitlines()[-1])["accuracy"] == result["accuracy"]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("blocks-*/*/*")} == written

    other = call(*command, "--", f"--dataset={dataset}", *TINY, "--epochs=2", check=False)
    assert other.returncode == 1 and "have the same flags after --" in other.stderr
    assert "(epochs: '1' there, '2' now). Pass another --workdir, or the old flags." in other.stderr


@pytest.mark.long
def test_failures_are_told_and_the_sweep_goes_on(dataset, tmp_path):
    command = [SCRIPT, f"--workdir={tmp_path / 'sweep'}", "--orders=1", "--blocks=1", "--seeds=0"]
    finished(tmp_path / "sweep", 1, "order-1", 0)
    diverging = [*TINY, "--batch_size=2", "--learning_rate=1e30"]
    done = run(*command, "--", f"--dataset={dataset}", *diverging, check=False)
    assert done.returncode == 1
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["trained"], result["failed"]) == (0, 2)
    words = {
        "order-1": "error: A workdir belongs to one configuration, and the same command on it resumes.",
        "relu": "error: A training ends when its loss or its gradient is not finite.",
    }
    for network, row in zip(words, rows(tmp_path / "sweep")):
        assert f"failed: blocks 1, {network}, seed 0: {words[network]}" in done.stdout
        assert row["network"] == network and row["failure"].startswith(words[network]) and row["accuracy"] == ""
    trained = json.loads((tmp_path / "sweep" / "blocks-1" / "relu-seed-0" / "config.json").read_text())
    assert (trained["order"], trained["activation"]) == (1, "relu")


@pytest.mark.long
def test_wrong_flags_do_not_take_the_folder(dataset, tmp_path):
    command = [SCRIPT, f"--workdir={tmp_path / 'sweep'}", "--orders=1", "--blocks=1", "--seeds=0", "--noreference"]
    done = run(*command, "--", "--epoks=3", check=False)
    assert done.returncode == 1
    words = "FATAL Flags parsing error: Unknown command line flag 'epoks'"
    assert f"failed: blocks 1, order-1, seed 0: {words}" in done.stdout
    assert rows(tmp_path / "sweep")[0]["failure"].startswith(words)
    run(*command, "--", f"--dataset={dataset}", *TINY)
    assert rows(tmp_path / "sweep")[0]["failure"] == "" and float(rows(tmp_path / "sweep")[0]["accuracy"]) >= 0


def trainer_of(sweep):
    """Returns the process id of the run of a sweep, or `None` while there is none."""
    for child in Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text(encoding="ascii").split():
        # Libraries that it imports start others, which end at once.
        with contextlib.suppress(OSError):
            if b"cifar_linear" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    return None


@pytest.fixture
def started(tmp_path):
    """A sweep of one run, and the process id of that run."""
    options = [f"--workdir={tmp_path}", "--orders=1", "--blocks=1", "--seeds=0", "--noreference"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell starts what runs in its background with interrupts ignored, and that is inherited.
    pipes["preexec_fn"] = lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)]
    sweep = subprocess.Popen([sys.executable, ROOT / SCRIPT, *options, "--", "--epochs=100000"], cwd=ROOT, **pipes)
    while not (child := trainer_of(sweep)):
        assert sweep.poll() is None
        time.sleep(0.02)
    # Until the sweep knows of the process that it made.
    time.sleep(0.3)
    yield sweep, child
    sweep.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")


@linux
def test_a_killed_run_is_told(started, tmp_path):
    sweep, child = started
    os.kill(child, signal.SIGKILL)
    out, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 1
    assert "failed: blocks 1, order-1, seed 0: killed by SIGKILL" in out
    assert rows(tmp_path)[0]["failure"] == "killed by SIGKILL"


@linux
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_an_interrupted_sweep_stops_its_run_and_says_how_to_go_on(started, tmp_path, how):
    sweep, child = started
    sweep.send_signal(how)
    _, err = sweep.communicate(timeout=30)
    assert sweep.returncode == 130 and "Traceback" not in err
    assert "Interrupted. Finished runs and epochs are kept; go on with: python" in err
    assert err.strip().endswith(
        f"--workdir={tmp_path} --orders=1 --blocks=1 --seeds=0 --noreference -- --epochs=100000"
    )
    assert not Path(f"/proc/{child}").exists()


def test_draw_only(tmp_path):
    for seed, accuracy in enumerate((0.7, 0.8)):
        finished(tmp_path, 1, "order-2", seed, accuracy=accuracy)
    finished(tmp_path, 2, "order-10", 0, accuracy=0.6)
    finished(tmp_path, 2, "order-2", 0)
    finished(tmp_path, 1, "relu", 0, accuracy=0.9)
    (tmp_path / "settings.json").write_text('{"dataset": "cifar10"}')
    done = call(SCRIPT, f"--workdir={tmp_path}", "--draw_only")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["blocks", "a", "stage", "order", "2", "order", "10", "relu"] in lines
    assert ["1", "0.750", "±", "0.071", "(2)", "-", "0.900", "(1)"] in lines
    assert ["2", "-", "0.600", "(1)", "-"] in lines
    assert [row["accuracy"] for row in rows(tmp_path)] == ["0.7", "0.8", "0.9", "", "0.6"]
    assert json.loads(done.stdout.splitlines()[-1])["trained"] == 0
    assert (tmp_path / "fig8.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--orders=1,x"], "--orders lists integers from 1 on with commas between them. Received: --orders=1,x. Pass"),
        (["--blocks=0"], "--blocks lists integers from 1 on"),
        (["--seeds="], "--seeds lists integers from 0 on"),
        (["extra"], "stand after -- as --name=value, and the sweep sets order"),
        (["--", "--epochs", "3"], "Received: '3'. Pass for example: -- --dataset=cifar10 --epochs=3."),
        (["--", "--seed=3"], "Received: '--seed=3'"),
        (["--draw_only"], "--draw_only draws the runs of a sweep that has begun. Received: --workdir="),
        (["--workdir=/proc/none"], "writes its results into its workdir. Received: workdir='/proc/none', which cannot"),
    ],
)
def test_bad_input(options, words, tmp_path):
    done = call(SCRIPT, f"--workdir={tmp_path / 'sweep'}", *options, check=False)
    assert done.returncode != 0 and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "sweep").exists()
