"""Where and how a training runs: strategy, precision and random state, set up in one place."""

import contextlib

import keras
import tensorflow as tf

from pinets_tf.layers.checks import one_of

STRATEGIES = ("auto", "none", "mirrored")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16", "float64")


def set_up(strategy="auto", precision="float32", seed=0):
    """Sets the precision policy and the seeds of the process, and returns the strategy to train under.

    Args:
        strategy: `"none"` for one device; `"mirrored"` for all GPUs of this host, or all logical CPUs where there is no
            GPU; `"auto"` for `"mirrored"` with several GPUs and else `"none"`.
        precision: the Keras dtype policy of all layers made from now on.
        seed: seed of Python, NumPy and TensorFlow.

    Returns:
        A `tf.distribute.Strategy`; models are made inside its `scope()`.

    Raises:
        ValueError: if `strategy` or `precision` is not one of the values above.
    """
    one_of("strategy", strategy, STRATEGIES)
    one_of("precision", precision, PRECISIONS)
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
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
