"""What it costs to save the state of a run, to go on with it, and to train in two processes instead of one.

    python benchmarks/training.py

The network is the ResNet18 of order 2 without activations (Sec. 5.1), on 32x32 images that are drawn from the embedded
sample; 64 channels in the first stage but for the last, which has --width:

- checkpoints: the time to save the state against the steps of an epoch of 50,000 images, in this process;
- going on: the time from the start of the trainer to the end of an epoch of 4 steps, the second one of a run that was
  killed after the first, minus that of the first;
- two processes: images/s of `python -m pinets_tf.launch --local=2`, a core each, against one process of two threads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from timing import Claim, Ratio, interleave, machine, print_table

from pinets_tf.models import resnet
from pinets_tf.training import Checkpoints, CoupledSGD, ReplicaModel

ROOT = Path(__file__).resolve().parent.parent
TRAINER = [str(ROOT / "examples" / "cifar_linear.py"), "--stage_blocks=2,2,2,2", "--xla=off"]
IMAGES, BATCH = 50_000, 128
# Of a run of CIFAR-10 at the default interval, which is an epoch.
CHECKPOINTS, WORKERS = Claim("<=", 1.03), Claim(">=", 0.90)
GOING_ON = Claim("<=", 5.0)


def command(*flags, launch=()):
    """Runs the trainer and returns its result."""
    done = subprocess.run(
        [sys.executable, *launch, *TRAINER, *flags], check=True, capture_output=True, text=True, cwd=ROOT
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return results[-1]


def saving(folder, rounds):
    """Returns the times of a training step and of saving the state after an epoch."""
    network = resnet((32, 32, 3), 10, stage_blocks=(2, 2, 2, 2), order=2)
    model = ReplicaModel(network)
    model.compile(CoupledSGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    checkpoints = Checkpoints(folder, IMAGES // BATCH)
    checkpoints.set_model(model)
    checkpoints.restore(model)
    x = tf.random.stateless_uniform((BATCH, 32, 32, 3), (0, 0))
    y = tf.constant(np.arange(BATCH) % 10)
    step = tf.function(lambda: model.update((x, y)))
    return interleave(
        {"step": lambda: step().numpy(), "save": lambda: checkpoints.on_epoch_end(0, {"loss": 1.0})}, rounds
    )


def seconds_to(epoch, *flags):
    """Starts the trainer, kills it when an epoch has ended and is saved, and returns how long it took to its end."""
    began, since = time.perf_counter(), time.time()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, *TRAINER, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        if not any(line.startswith(f"epoch {epoch}/") for line in process.stdout):
            raise SystemExit(f"error: The trainer ended before epoch {epoch}.")
        seconds = time.perf_counter() - began
        saved = Path(flags[0].removeprefix("--workdir="), "checkpoint.npz")
        while not (saved.exists() and saved.stat().st_mtime > since):
            time.sleep(0.1)
        process.kill()
    return seconds


def going_on(folder, rounds):
    """Returns by how many seconds a start that goes on takes longer than one anew, in each round."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, (64, 32, 32, 3)).astype("uint8") for name in ("x_train", "x_test")}
    np.savez(folder / "set.npz", **arrays, y_train=np.arange(64) % 10, y_test=np.arange(64) % 10)
    flags = [f"--dataset={folder / 'set.npz'}", "--batch_size=16", "--epochs=9"]
    longer = []
    for number in range(rounds):
        anew, later = (seconds_to(epoch, f"--workdir={folder / f'killed-{number}'}", *flags) for epoch in (1, 2))
        longer.append(later - anew)
    return longer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=32, help="channels of the first stage, for the two processes")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        timings = saving(folder, options.rounds)
        pairs = zip(timings.seconds["save"], timings.seconds["step"])
        share = Ratio.of([1 + save / (step * (IMAGES // BATCH)) for save, step in pairs])
        rows.append([f"an epoch of {IMAGES:,} images with a checkpoint / without", share, CHECKPOINTS])
        longer = Ratio.of(going_on(Path(folder), options.rounds))
        rows.append(["seconds that a start takes longer that goes on / 1 s", longer, GOING_ON])
        speeds = []
        for number in range(options.rounds):
            flags = ["--epochs=2", "--batch_size=100", f"--width={options.width}"]
            one = command(*flags, f"--workdir={folder}/one-{number}")
            two = command(*flags, f"--workdir={folder}/two-{number}", launch=["-m", "pinets_tf.launch", "--local=2"])
            speeds.append(two["images_per_second"] / one["images_per_second"])
        rows.append(["images/s of two processes / of one with two threads", Ratio.of(speeds), WORKERS])
    print_table(rows, f"{machine()}; float32, {options.rounds} rounds")


if __name__ == "__main__":
    main()
