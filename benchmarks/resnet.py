"""Speed and memory of ResNet18 with order-2 blocks and no activation, against ResNet18 with ReLU.

    python benchmarks/resnet.py

The polynomial network has batch normalisation on the products, so it has one product, one normalisation and one sum
more in each block, and no ReLU. Images are 32x32, the batch is 64, the arithmetic float32. Images per second are those
of the logits at inference and of whole steps of SGD with momentum.

Memory is the peak of the resident size of a fresh process that builds one network and runs one of the two functions a
few times, as a whole (with Python and TensorFlow) and without what was resident before the network was built.
Linux only: it is read from /proc.
"""

import argparse
import json
import statistics
import subprocess
import sys

import resnet18
import tensorflow as tf
from timing import Claim, Ratio, interleave, machine, print_table

INFERENCE = Claim(">=", 0.97)
TRAINING = Claim(">=", 0.95)
MEMORY = Claim("<=", 1.10)
KINDS = ("inference", "training")
# The polynomial network first: every ratio is its number over that of the other.
NAMES = ("order 2", "ReLU")
_CALLS = 4


def step(kind, name):
    images, labels = resnet18.random_batch()
    network = resnet18.build(name)
    if kind == "inference":
        return resnet18.inference(network, images)
    return resnet18.training_step(network, images, labels)


def measure_memory(kind, name):
    """Prints the resident size before the network is built and the peak after a few calls, in bytes, as JSON."""
    # Starts the runtime, which is no part of the network.
    tf.function(lambda x: tf.linalg.matmul(x, x))(tf.zeros((64, 64)))
    before = _resident("VmRSS")
    run = step(kind, name)
    for _ in range(_CALLS):
        run()
    print(json.dumps({"before": before, "peak": _resident("VmHWM")}))


def _resident(field):
    # Not getrusage: its ru_maxrss starts at the size of the process that started this one.
    with open("/proc/self/status", encoding="ascii") as status:
        kibibytes = next(line.split()[1] for line in status if line.startswith(f"{field}:"))
    return int(kibibytes) * 1024


def memory_in_fresh_process(kind, name):
    command = [sys.executable, __file__, f"--memory_of={name}", f"--kind={kind}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr)
    return json.loads(process.stdout.splitlines()[-1])


def memory_rows(kind, repeats):
    """Returns the rows of the table for memory: the whole process and the growth, in MiB and as ratios."""
    ours, theirs = NAMES
    runs = [{name: memory_in_fresh_process(kind, name) for name in NAMES} for _ in range(repeats)]
    rows = []
    for what, size in (
        ("whole process", lambda run: run["peak"]),
        ("without Python and TensorFlow", lambda run: run["peak"] - run["before"]),
    ):
        mebibytes = [statistics.median(size(run[name]) for run in runs) / 2**20 for name in NAMES]
        ratio = Ratio.of([size(run[ours]) / size(run[theirs]) for run in runs])
        rows.append((f"{kind}, peak memory, {what} ({mebibytes[0]:.0f} / {mebibytes[1]:.0f} MiB)", ratio, MEMORY))
    return rows


def speed_row(kind, claim, rounds):
    ours, theirs = NAMES
    timings = interleave({name: step(kind, name) for name in NAMES}, rounds, slice_seconds=0.0)
    rates = [resnet18.BATCH / timings.median(name) for name in NAMES]
    # A ratio of images per second is the inverse ratio of seconds.
    return f"{kind}, images/s ({rates[0]:.0f} / {rates[1]:.0f})", timings.ratio(theirs, ours), claim


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="timings of each function")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each number of memory")
    parser.add_argument("--quick", action="store_true", help="few rounds, no memory of inference: a smoke test")
    parser.add_argument("--memory_of", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        measure_memory(arguments.kind, arguments.memory_of)
        return
    rounds, repeats = (2, 1) if arguments.quick else (arguments.rounds, arguments.repeats)
    rows = [speed_row("inference", INFERENCE, rounds), speed_row("training", TRAINING, rounds)]
    for kind in KINDS[1:] if arguments.quick else KINDS:
        rows += memory_rows(kind, repeats)
    print("ResNet18, order 2 / ReLU")
    print_table(rows, f"{machine()}; float32, batch {resnet18.BATCH}, {rounds} rounds, {repeats} processes per memory")


if __name__ == "__main__":
    main()
