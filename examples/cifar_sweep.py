"""Accuracy against the order, without activation functions: Fig. 8 of the paper, Sec. 4.2.

    python examples/cifar_sweep.py --workdir runs/fig8 -- --dataset=cifar10
    python examples/cifar_sweep.py --workdir runs/short --orders 1,2 --seeds 0,1 -- --dataset=cifar10 --epochs=3

Runs `examples/cifar_linear.py` for every depth, order and seed, and with ReLU for every depth and seed; what stands
after `--` is handed on to it. Expected at full size, from the paper: 0.391 (CIFAR-10) and 0.168 (CIFAR-100) for order
1, 0.945 and 0.769 for ReLU; orders 2 to 5 close to ReLU, falling with the order, and much the same for both depths. The
defaults are 120 trainings of 120 epochs, seed after seed, so that the picture is complete early and then gets surer.

Writes results.csv and fig8.png into the workdir after every run. The same command goes on where it stopped: finished
runs are kept, failed ones tried again.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import csv
import datetime
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

from absl import app, flags

from pinets_tf import script

FLAGS = flags.FLAGS
script.define_workdir(None, "Folder for the runs, the table and the picture.")
flags.DEFINE_list("orders", ["1", "2", "3", "4", "5"], "Orders of the residual blocks; the paper: 2 to 5 (Fig. 8).")
flags.DEFINE_list("blocks", ["1", "2"], "Blocks in each of the four stages; the paper: 1 and 2 (Fig. 8).")
flags.DEFINE_list("seeds", list(map(str, range(10))), "Seeds; the paper: 10 runs of each network (Sec. 4.2).")
flags.DEFINE_bool("reference", True, "Whether the network of order 1 with ReLU is trained as well.")
flags.DEFINE_bool("draw_only", False, "Train nothing; table and picture of the runs that are there.")

TRAINER = Path(__file__).resolve().with_name("cifar_linear.py")
SET_HERE = ("order", "stage_blocks", "activation", "seed", "workdir")
MAY_DIFFER = ("data_dir", "strategy", "xla")
COLUMNS = ("blocks", "network", "seed", "accuracy", "loss", "parameters", "dataset", "width", "epochs", "seconds")
# Footnote 6: ResNet18 without and with activation functions. The longer name first, since it contains the other.
PAPER = {"cifar100": (0.168, 0.769), "cifar10": (0.391, 0.945)}


def numbers(name, least):
    """Returns the different numbers of a flag that lists them."""
    values = list(dict.fromkeys(FLAGS[name].value))
    if not values or not all(value.isdecimal() and int(value) >= least for value in values):
        raise app.UsageError(
            f"--{name} lists integers from {least} on with commas between them. "
            f"Received: --{name}={','.join(values)}. Pass for example --{name}=1,2."
        )
    return list(map(int, values))


def settings_of_the_runs(arguments):
    """Returns the flags that are handed on, from name to value, if they are those of the runs that are there."""
    settings = {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name in SET_HERE:
            raise app.UsageError(
                f"Flags of {TRAINER.name} stand after -- as --name=value, and the sweep sets {', '.join(SET_HERE)}. "
                f"Received: {argument!r}. Pass for example: -- --dataset=cifar10 --epochs=3."
            )
        settings[name] = value
    file = Path(FLAGS.workdir, "settings.json")
    old = read(file) if file.exists() else settings
    names = sorted((old.keys() | settings.keys()) - set(MAY_DIFFER))
    different = [f"{n}: {old.get(n)!r} there, {settings.get(n)!r} now" for n in names if old.get(n) != settings.get(n)]
    if different and not FLAGS.draw_only:
        raise SystemExit(
            "error: All runs of a sweep have the same flags after --. "
            f"Received: {file.parent} with others ({', '.join(different)}). Pass another --workdir, or the old flags."
        )
    return settings


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def replace(path, write):
    """Lets `write` make a file that is either the old one or the new one, whenever it is read."""
    # Several sweeps of different seeds may work in one folder.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    write(partial)
    os.replace(partial, path)


def replace_text(path, text):
    replace(path, lambda partial: partial.write_text(text, encoding="utf-8", errors="backslashreplace"))


def train(folder, blocks, network, seed, settings):
    """Trains one network in a process of its own, shows what it prints, and returns why it failed, or ''."""
    order, activation = (1, "relu") if network == "relu" else (network.removeprefix("order-"), "none")
    ours = zip(SET_HERE, (order, ",".join([str(blocks)] * 4), activation, seed, folder))
    command = [sys.executable, "-u", str(TRAINER)]
    command += [f"--{name}={value}" if value != "" else f"--{name}" for name, value in (*settings.items(), *ours)]
    lines = ["it printed nothing"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    options["env"] = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(command, **options) as child:
        try:
            for line in child.stdout:
                print("  " + line, end="", flush=True)
                # Not the log of TensorFlow, which tells of errors that are none, such as that there is no GPU.
                lines += [line.strip()] if line.strip() and not re.match(r"[IWE]\d{4} ", line) else []
        except BaseException:
            child.terminate()  # It saves its state between two steps.
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
    if child.returncode < 0:
        return f"killed by {signal.Signals(-child.returncode).name}"
    if child.returncode == 0 and (folder / "result.json").exists():
        return ""
    # The last line that speaks of an error, since hints and warnings may follow it.
    return next((line for line in reversed(lines) if "error" in line.lower()), lines[-1])


def collect(folder):
    """Returns what is known of each run in the folder, as dictionaries."""
    rows = []
    for run in folder.glob("blocks-*/*-seed-*"):
        files = [run / name for name in ("config.json", "result.json", "failure.json")]
        known = {key: value for file in files if file.exists() for key, value in read(file).items()}
        network, seed = run.name.split("-seed-")
        known |= {"blocks": int(run.parent.name.removeprefix("blocks-")), "network": network, "seed": int(seed)}
        rows.append({name: known.get(name, "") for name in (*COLUMNS, "failure")})
    # ReLU, whose name is shorter, after the orders.
    return sorted(rows, key=lambda row: (row["blocks"], row["network"] == "relu", len(row["network"]), *row.values()))


def accuracies(rows):
    """Returns the accuracies of the finished runs, as `{blocks: {network: [...]}}`."""
    cells = {}
    for row in rows:
        if row["accuracy"] != "":
            cells.setdefault(row["blocks"], {}).setdefault(row["network"], []).append(row["accuracy"])
    return cells


def spread(values):
    """Returns the standard deviation, 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def table(rows):
    """Returns mean ± standard deviation (number of runs) of each network, a line for each depth."""
    networks = sorted(dict.fromkeys(row["network"] for row in rows), key=lambda name: (name == "relu", len(name), name))
    lines = ["blocks a stage" + "".join(name.replace("-", " ").rjust(20) for name in networks)]
    for blocks, cells in accuracies(rows).items():
        shown = {name: f"{mean(c):.3f}{f' ± {spread(c):.3f}' * (len(c) > 1)} ({len(c)})" for name, c in cells.items()}
        lines.append(str(blocks).ljust(14) + "".join(shown.get(name, "-").rjust(20) for name in networks))
    return "\n".join(lines)


def draw(rows, picture):
    """Draws accuracy against order: a line for each depth, single runs as dots, ReLU dotted."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit(
            "error: Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for index, (blocks, networks) in enumerate(accuracies(rows).items()):
        color, name = f"C{index}", f"[{','.join([str(blocks)] * 4)}]"
        cells = {int(key.removeprefix("order-")): cell for key, cell in networks.items() if key != "relu"}
        # Side by side, so that the bars of the depths do not cover each other.
        places = [order + 0.06 * index for order in cells]
        for place, cell in zip(places, cells.values()):
            axes.plot([place] * len(cell), cell, "o", markersize=5, markeredgewidth=0, alpha=0.3, color=color)
        means, deviations = ([measure(cell) for cell in cells.values()] for measure in (mean, spread))
        axes.errorbar(places, means, deviations, fmt=".-", capsize=4, color=color, label=f"{name}, no activation")
        if "relu" in networks:
            axes.axhline(mean(networks["relu"]), linestyle=":", color=color, label=f"{name}, ReLU")
    finished = [row for row in rows if row["accuracy"] != ""]
    if finished:
        dataset = Path(finished[0]["dataset"]).name
        axes.set_title("{}: width {width}, {epochs} epochs, {} runs".format(dataset, len(finished), **finished[0]))
        paper = next((PAPER[name] for name in PAPER if name in dataset.lower()), ())
        for value, what in zip(paper, ("without activations", "with ReLU")):
            axes.axhline(value, color="0.5", linewidth=0.7)
            place = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom", "fontsize": 8}
            axes.text(0.99, value, f"ResNet18 {what} in the paper: {value}", color="0.4", **place)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    axes.set(xlabel="order of the blocks", ylabel="accuracy on the test images")
    axes.set_xticks(
        sorted({int(row["network"].removeprefix("order-")) for row in finished if row["network"] != "relu"})
    )
    axes.grid(alpha=0.3)
    replace(picture, lambda path: figure.savefig(path, dpi=130, format="png"))


def report(folder):
    """Writes results.csv and fig8.png from what is in the folder, and returns the rows."""
    rows, text = collect(folder), io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, "failure"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(folder / "results.csv", text.getvalue())
    draw(rows, folder / "fig8.png")
    return rows


def main(argv):
    settings = settings_of_the_runs(argv[1:])
    networks = [f"order-{order}" for order in numbers("orders", 1)] + ["relu"] * FLAGS.reference
    depths = numbers("blocks", 1)
    folder = Path(FLAGS.workdir)
    runs = {
        (blocks, network, seed): folder / f"blocks-{blocks}" / f"{network}-seed-{seed}"
        for seed in numbers("seeds", 0)
        for blocks in depths
        for network in networks
    }
    if FLAGS.draw_only and not collect(folder):
        raise SystemExit(
            "error: --draw_only draws the runs of a sweep that has begun. "
            f"Received: --workdir={folder}, which has none. Pass its folder, or leave out --draw_only."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = report(folder)
    except OSError as error:
        raise SystemExit(
            f"error: A sweep writes its results into its workdir. Received: workdir={FLAGS.workdir!r}, which cannot be "
            f"written to ({error.strerror or error}). Pass another folder with --workdir."
        ) from error
    todo = [] if FLAGS.draw_only else [run for run, place in runs.items() if not (place / "result.json").exists()]
    print(f"runs in {folder}: {len(rows)}; to train: {len(todo)} of {len(runs)}")
    # A scheduler ends a job with SIGTERM, which has to end the running child as well.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    started, seconds, failures = time.perf_counter(), {}, {}
    try:
        for index, run in enumerate(todo):
            place, run_started = runs[run], time.perf_counter()
            print("\nrun {} of {}: blocks {}, {}, seed {}".format(index + 1, len(todo), *run), flush=True)
            (place / "failure.json").unlink(missing_ok=True)
            failure = train(place, *run, settings)
            if failure:
                failures[run] = failure
                place.mkdir(parents=True, exist_ok=True)
                replace_text(place / "failure.json", json.dumps({"failure": failure}))
            else:
                seconds.setdefault(run[:2], []).append(time.perf_counter() - run_started)
            # Not before a run was accepted: wrong flags must not take the folder from the right ones.
            if (place / "config.json").exists():
                replace_text(folder / "settings.json", json.dumps(settings))
            rows = report(folder)
            every = [value for cell in seconds.values() for value in cell]
            left = sum(mean(seconds.get(other[:2], every or [0])) for other in todo[index + 1 :])
            print(
                f"\n{table(rows)}\n{len(failures)} failed, {datetime.timedelta(seconds=round(left))} left", flush=True
            )
    except KeyboardInterrupt:
        command = shlex.join([Path(sys.executable).name, *sys.argv])
        print(f"\nInterrupted. Finished runs and epochs are kept; go on with: {command}", file=sys.stderr)
        sys.exit(130)
    if not todo:
        print(table(rows))
    for (blocks, network, seed), reason in failures.items():
        print(f"failed: blocks {blocks}, {network}, seed {seed}: {reason}")
    means = {f"blocks-{b}/{n}": round(mean(v), 4) for b, cells in accuracies(rows).items() for n, v in cells.items()}
    result = {"trained": len(todo) - len(failures), "failed": len(failures), "accuracy": means}
    print(json.dumps({**result, "seconds": round(time.perf_counter() - started, 1), "workdir": str(folder)}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    script.start()
    app.run(main)
