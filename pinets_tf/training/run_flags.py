"""Flags that every trainer has, and what follows from them: configuration, optimizer."""

import math
import os
import sys
from typing import Any

import keras

from pinets_tf.files import expanded
from pinets_tf.script import define_path, define_workdir
from pinets_tf.training.coupled_adam import CoupledAdam
from pinets_tf.training.coupled_sgd import CoupledSGD, normalization_variables
from pinets_tf.training.replica_model import XLA_CHOICES
from pinets_tf.training.runtime import PRECISIONS, STRATEGIES, SURROUNDINGS
from pinets_tf.training.step_schedule import StepSchedule

# What a resumed run may change without becoming another run.
MAY_DIFFER = (
    "workdir",
    "epochs",
    "steps",
    "data_dir",
    "strategy",
    "worker_timeout",
    "rollbacks",
    "rollback_factor",
    "xla",
    "networks",
    "eval_only",
    "predict",
    "cache",
    "azimuth",
    "elevation",
    "up",
    "inception",
    "efficientnet_lite0",
    "score_images",
    "reference",
    "sample_every",
    "checkpoint_every",
    "steps_per_loop",
    "deterministic",
    *SURROUNDINGS,
)


def define_run_flags(precision="float32"):
    """Defines, as flags of the calling script, where and how a run takes place.

    Raises:
        IllegalFlagValueError: when the flags are parsed, if a number of any of them is not finite.
    """
    from absl import flags

    # Else they would be listed as flags of this module, not of the script.
    flags.disclaim_key_flags()
    define_workdir(None, "Folder for everything that the run writes.")
    define_path("data_dir", None, "Folder of TensorFlow Datasets; its own default if not given.")
    flags.DEFINE_enum("precision", precision, PRECISIONS, "Keras dtype policy.")
    flags.DEFINE_enum(
        "strategy",
        "auto",
        STRATEGIES,
        "Replicas: auto is multi_worker where TF_CONFIG names several workers, and else mirrored with several GPUs.",
    )
    flags.DEFINE_float("worker_timeout", 300, "Seconds to wait for the other workers at the start.", lower_bound=0)
    flags.DEFINE_enum("xla", "auto", XLA_CHOICES, "XLA for each replica; auto measures both.")
    flags.DEFINE_integer("seed", 0, "Seed of initial values, order and augmentation.", lower_bound=0)
    flags.DEFINE_bool(
        "deterministic", False, "Repeat bit for bit on one CPU; slower. XLA is off unless it is asked for."
    )
    flags.DEFINE_integer(
        "rollbacks",
        0,
        "How often a run whose loss is not finite goes on from its last saved state with a smaller rate.",
        lower_bound=0,
    )
    flags.DEFINE_float("rollback_factor", 0.5, "What the learning rate is multiplied with then.", 1e-6, 1)
    flags.DEFINE_bool("eval_only", False, "Test the saved model of the workdir, without training.")
    flags.DEFINE(
        _files_parser(),
        "predict",
        [],
        "Files, with commas between them, for which the saved model of the workdir prints its top answers.",
        serializer=flags.CsvListSerializer(","),
    )
    # It looks at all flags, also those of the script, which are defined later.
    flags.register_validator("workdir", _all_are_finite)


def _files_parser():
    from absl import flags

    class Files(flags.ListParser):
        """A list of which an entry may have commas itself, if it is the name of a file."""

        def parse(self, argument):
            # In quotes, as the list is written.
            if not isinstance(argument, str) or argument.startswith('"'):
                return super().parse(argument)
            return listed_files(argument)

    return Files()


def listed_files(text):
    """Returns the names of files in a text with commas between them; the longest name of a file there is one name.

    Example:

    >>> listed_files("cat.png,dog.png")
    ['cat.png', 'dog.png']
    """
    names, parts = [], text.split(",") if text else []
    while parts:
        ends = range(len(parts), 1, -1)
        end = next((end for end in ends if os.path.lexists(expanded(",".join(parts[:end])))), 1)
        names.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return names


def _all_are_finite(workdir):
    from absl import flags

    for flag in map(flags.FLAGS.__getitem__, flags.FLAGS):
        if isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise flags.IllegalFlagValueError(
                f"Flags that are numbers are finite. Received: --{flag.name}={flag.value}. "
                f"Pass for example --{flag.name}={flag.default}."
            )
    return True


def define_recipe_flags(
    *,
    epochs,
    batch_size,
    learning_rate,
    weight_decay,
    milestones,
    learning_rate_batch=0,
    decay_normalization=True,
    warm_up_epochs=0,
):
    """Defines, as flags of the calling script, a recipe of SGD with these numbers."""
    from absl import flags

    flags.disclaim_key_flags()
    flags.DEFINE_integer("epochs", epochs, "Epochs.", lower_bound=1)
    flags.DEFINE_integer(
        "recipe_epochs", epochs, "Epochs for which milestones and warm-up are meant; they are scaled.", lower_bound=1
    )
    flags.DEFINE_integer("batch_size", batch_size, "Samples in a step, over all replicas.", lower_bound=1)
    flags.DEFINE_float("learning_rate", learning_rate, "Learning rate at the start.", lower_bound=0)
    flags.DEFINE_integer(
        "learning_rate_batch",
        learning_rate_batch,
        "Batch size for which the learning rate is meant; for another one it is scaled. 0: it is used as it is.",
        lower_bound=0,
    )
    flags.DEFINE_float("momentum", 0.9, "Momentum of SGD.", lower_bound=0, upper_bound=1)
    flags.DEFINE_float("weight_decay", weight_decay, "L2 weight decay, through the momentum.", lower_bound=0)
    flags.DEFINE_bool(
        "decay_normalization", decay_normalization, "Whether scales, offsets and gates of normalisations decay too."
    )
    flags.DEFINE_list("milestones", list(map(str, milestones)), "Epochs where the rate falls.")
    flags.DEFINE_float("decay_factor", 0.1, "What the rate is multiplied with at each milestone.", lower_bound=0)
    flags.DEFINE_float("warm_up_epochs", warm_up_epochs, "Epochs in which the rate rises linearly.", lower_bound=0)
    flags.DEFINE_float("label_smoothing", 0.0, "Probability spread over all classes.", lower_bound=0, upper_bound=0.99)


def recipe_optimizer(network, steps_per_epoch):
    """Returns the optimizer that the flags of the recipe describe.

    The learning rate is scaled linearly with the batch size where `--learning_rate_batch` says so, and a warm-up starts
    at the unscaled one, as in Goyal et al., "Accurate, Large Minibatch SGD", 2017; at zero if scaling lowers the rate.

    Raises:
        ValueError: if a milestone is not a number or lies within the warm-up.
    """
    from absl import flags

    values = flags.FLAGS
    scale = steps_per_epoch * values.epochs / values.recipe_epochs
    peak = values.learning_rate * (values.batch_size / (values.learning_rate_batch or values.batch_size))
    schedule = StepSchedule(
        peak,
        [round(milestone * scale) for milestone in numbers("milestones", float)],
        values.decay_factor,
        warm_up_steps=round(values.warm_up_epochs * scale),
        warm_up_from=values.learning_rate if values.learning_rate < peak else 0.0,
    )
    optimizer = CoupledSGD(schedule, momentum=values.momentum, l2=values.weight_decay)
    if not values.decay_normalization:
        optimizer.exclude_from_weight_decay(var_list=normalization_variables(network))
    return optimizer


def define_adam_flags(*, epochs, batch_size, learning_rate, weight_decay, decay_factor):
    """Defines, as flags of the calling script, a recipe of Adam with these numbers."""
    from absl import flags

    flags.disclaim_key_flags()
    flags.DEFINE_integer("epochs", epochs, "Epochs.", lower_bound=1)
    flags.DEFINE_integer(
        "recipe_epochs", epochs, "Epochs for which --decay_factor is meant; others end at the same rate.", lower_bound=1
    )
    flags.DEFINE_integer("batch_size", batch_size, "Samples in a step, over all replicas.", lower_bound=1)
    flags.DEFINE_float("learning_rate", learning_rate, "Learning rate at the start.", lower_bound=0)
    flags.DEFINE_float("weight_decay", weight_decay, "L2 weight decay, through the moments of Adam.", lower_bound=0)
    flags.DEFINE_bool("decay_normalization", True, "Whether scales, offsets and gates of normalisations decay too.")
    flags.DEFINE_float("decay_factor", decay_factor, "What the rate is multiplied with each epoch.", lower_bound=0)


def adam_optimizer(network, steps_per_epoch):
    """Returns the optimizer that the flags of `define_adam_flags` describe."""
    from absl import flags

    values = flags.FLAGS
    factor = values.decay_factor ** (values.recipe_epochs / values.epochs)
    schedule = keras.optimizers.schedules.ExponentialDecay(
        values.learning_rate, steps_per_epoch, factor, staircase=True
    )
    optimizer = CoupledAdam(schedule, l2=values.weight_decay)
    if not values.decay_normalization:
        optimizer.exclude_from_weight_decay(var_list=normalization_variables(network))
    return optimizer


def reduce_for_sample(**values):
    """Sets flags that were not given to values with which the sample takes less than a minute, and says so."""
    from absl import flags

    reduced = {name: value for name, value in values.items() if flags.FLAGS[name].using_default_value}
    for name, value in reduced.items():
        flags.FLAGS.set_default(name, value)
    if reduced:
        listed = (
            f"--{name}={','.join(value) if isinstance(value, list) else value}" for name, value in reduced.items()
        )
        print("The sample is small, so this run is reduced:", *listed)


def configuration():
    """Returns the values of all flags of the running script as a dictionary of JSON values."""
    from absl import flags

    return {flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}


def numbers(name, kind=int):
    """Returns the value of a flag that lists numbers, as a tuple.

    Raises:
        ValueError: if an entry is not a number of that kind.
    """
    from absl import flags

    flag: Any = flags.FLAGS[name]
    try:
        values = tuple(kind(value) for value in flag.value)
        if not all(map(math.isfinite, values)):
            raise ValueError("not finite")
        return values
    except ValueError as error:
        raise ValueError(
            f"--{name} lists numbers with commas between them. Received: --{name}={','.join(flag.value)}. "
            f"Pass for example --{name}={','.join(flag.default)}."
        ) from error
