"""Where and how a training runs: strategy, precision and random state, set up in one place."""

import contextlib
import errno
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import keras
import tensorflow as tf

from pinets_tf.layers.checks import one_of

STRATEGIES = ("auto", "none", "mirrored")
SURROUNDINGS = ("versions", "devices", "replicas", "git_commit")
# What tells of a disk, and not of a file.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "float64")


def set_up(strategy="auto", precision="float32", seed=0, deterministic=False):
    """Sets the precision policy and the seeds of the process, and returns the strategy to train under.

    Args:
        strategy: `"none"` for one device; `"mirrored"` for all GPUs of this host, or all logical CPUs where there is no
            GPU; `"auto"` for `"mirrored"` with several GPUs and else `"none"`.
        precision: the Keras dtype policy of all layers made from now on.
        seed: seed of Python, NumPy and TensorFlow.
        deterministic: whether operations that could give other bits each time are replaced by slower ones, for all of
            the process. Another machine, another number of threads or of replicas may still give others.

    Returns:
        A `tf.distribute.Strategy`; models are made inside its `scope()`.

    Raises:
        ValueError: if `strategy` or `precision` is not one of the values above.
    """
    one_of("strategy", strategy, STRATEGIES)
    one_of("precision", precision, PRECISIONS)
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    gpus = tf.config.list_logical_devices("GPU")
    if strategy == "none" or (strategy == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    # Collective operations of two strategies in one process collide on CPUs (TensorFlow 2.21).
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(cpus, cross_device_ops=tf.distribute.ReductionToOneDevice())


def describe(strategy, precision):
    """Returns one line that says on what a training runs."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    kind = devices[0].device_type
    return f"{strategy.num_replicas_in_sync} x {kind}, {type(strategy).__name__}, {precision}"


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
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
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
def exit_on_divergence(remedy):
    """Ends the program with a message and `remedy` where Keras's `TerminateOnNaN(raise_error=True)` stops it."""
    try:
        yield
    except RuntimeError as error:
        if "NaN or Inf" not in str(error):
            raise
        raise Divergence(
            f"error: A training ends when its loss is not finite. Received: {error} "
            f"The last whole epoch is kept. {remedy}"
        ) from error


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
