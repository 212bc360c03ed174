"""Where and how a training runs: strategy, precision and random state, set up in one place."""

import contextlib
import errno
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import keras
import tensorflow as tf

from pinets_tf.layers.checks import one_of
from pinets_tf.training import cluster

STRATEGIES = ("auto", "none", "mirrored", "multi_worker", "tpu")
# Status of a program whose training has lost another worker, which may be started again: EX_TEMPFAIL.
LOST_WORKER = 75
SURROUNDINGS = ("versions", "devices", "replicas", "git_commit")
# What tells of a disk, and not of a file.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "float64")


def set_up(strategy="auto", precision="float32", seed=0, deterministic=False, worker_timeout=300):
    """Sets the precision policy and the seeds of the process, and returns the strategy to train under.

    Called before TensorFlow computes anything where there are several workers or a TPU.

    Args:
        strategy: `"none"` for one device; `"mirrored"` for all GPUs of this host, or all logical CPUs where there is no
            GPU; `"multi_worker"` for these of all workers of `TF_CONFIG`; `"tpu"` for the TPU of the environment
            variable `TPU_NAME`, or that of this host (never tried); `"auto"` for `"multi_worker"` where `TF_CONFIG` has
            several, else for `"mirrored"` with several GPUs, and else `"none"`.
        precision: the Keras dtype policy of all layers made from now on.
        seed: seed of Python, NumPy and TensorFlow.
        deterministic: whether operations that could give other bits each time are replaced by slower ones, for all of
            the process. Another machine, another number of threads or of replicas may still give others.

        worker_timeout: for how many seconds to wait for the other workers.

    Returns:
        A `tf.distribute.Strategy`; models are made inside its `scope()`.

    Raises:
        ValueError: if `strategy` or `precision` is not one of the values above, `TF_CONFIG` is wrong, or TensorFlow was
            used before.
        TimeoutError: if a worker is missing.
    """
    one_of("strategy", strategy, STRATEGIES)
    one_of("precision", precision, PRECISIONS)
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if several_workers(strategy):
        return cluster.join(worker_timeout)
    if strategy == "tpu":
        return _join_tpu()
    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "none" or (strategy == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    # Collective operations of two strategies in one process collide on CPUs (TensorFlow 2.21).
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(cpus, cross_device_ops=tf.distribute.ReductionToOneDevice())


def several_workers(strategy):
    """Returns whether a strategy, as in `set_up`, is that of several workers."""
    return strategy == "multi_worker" or (strategy == "auto" and len(cluster.workers()[0]) > 1)


def _join_tpu():
    print("TPUs: the authors had none, so this was never tried", flush=True)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            "A TPU is that of this host, or the one that the environment variable TPU_NAME names. "
            f"Received: TPU_NAME={os.environ.get('TPU_NAME')!r}, where none can be used "
            f"({str(error).splitlines()[0]}). "
            "Correct it, or pass --strategy=auto."
        ) from error


def describe(strategy, precision):
    """Returns one line that says on what a training runs."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    kind = devices[0].device_type
    return f"{strategy.num_replicas_in_sync} x {kind}, {type(strategy).__name__}, {precision}"


def how_it_repeats(strategy, deterministic):
    """Returns one line that says how far the same command on a new workdir gives the same numbers."""
    if not deterministic:
        return "repeats up to rounding: threads add in the order in which they come (--deterministic is bit for bit)"
    if tf.config.list_logical_devices("GPU"):
        return "deterministic operations; on GPUs that was never compared bit for bit, another kind gives other bits"
    replicas = strategy.num_replicas_in_sync
    others = f"another number of replicas than {replicas} gives" if replicas > 1 else "replicas or other machines give"
    return f"repeats bit for bit; {others} other bits"


def surroundings(strategy):
    """Returns what a run depends on beside its flags, as a dictionary of JSON values by the names of `SURROUNDINGS`.

    The commit is that of the checkout in which this package lies, with `+changes` where files of it are not committed,
    and `None` where there is none.
    """
    versions = {"python": platform.python_version()}
    for package in ("pinets_tf", "tensorflow", "keras", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # Of a checkout that is not installed.
            versions[package] = importlib.metadata.version(package)
    devices = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", platform.machine()) for device in devices
    ]
    return dict(zip(SURROUNDINGS, (versions, names, strategy.num_replicas_in_sync, _git_commit())))


def _git_commit():
    git = ["git", "-C", str(Path(__file__).parent)]
    # The first fails in an installed package, also in one that lies inside of another project.
    tracked, head, status = (
        [*git, "ls-files", "--error-unmatch", __file__],
        [*git, "rev-parse", "HEAD"],
        [*git, "status", "--porcelain", "--untracked-files=no"],
    )
    try:
        _, commit, changes = (
            subprocess.run(command, capture_output=True, check=True, timeout=10).stdout.decode(errors="replace")
            for command in (tracked, head, status)
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.strip() + ("+changes" if changes else "")


class Divergence(SystemExit):
    """The end of a program whose training went wrong; a script that trains several networks may go on."""


@contextlib.contextmanager
def exit_on_bad_input():
    """Ends the program with the message alone where a setting or a file that it was given is wrong.

    For the part of a script that reads settings and data and builds the network: a `ValueError`, `OSError` or
    `ImportError` of it becomes a `SystemExit`, whose cause it remains.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error


@contextlib.contextmanager
def exit_on_lost_worker(workdir):
    """Ends the program with status 75 where another worker of the same training has ended or cannot be reached."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        if cluster.hosts()[1] == 1:
            raise
        lost = sorted(set(re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error))))
        named = ", ".join(f"{job} {task}" for job, task in lost) or "one of them"
        print(
            f"error: Workers train together until the end. Received: no answer from {named} ({_first_line(error)}). "
            f"The last saved state is in {workdir}. Start all workers again; the same command goes on from there.",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(LOST_WORKER) from error


def _first_line(error):
    text = str(error.message or "").strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextlib.contextmanager
def exit_on_full_disk(workdir):
    """Ends the program with a message where a disk is full, or fails, while a run writes into `workdir`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_DISKS:
            raise
        raise SystemExit(
            f"error: A run writes its state into its workdir. Received: {workdir}, where that failed ({error}). "
            "The state before is kept. Make room; the same command goes on from there."
        ) from error
