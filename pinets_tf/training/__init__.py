"""What the example trainers share: strategy and precision, XLA, optimizer, checkpoints, progress, reports, pictures."""

from pinets_tf.training.checkpoints import Checkpoints
from pinets_tf.training.classifier import (
    Lessons,
    crossentropy,
    evaluate_classifier,
    fit_classifier,
    load_classifier,
    print_answers,
    results,
    run_classifier,
)
from pinets_tf.training.coupled_sgd import CoupledSGD, normalization_variables
from pinets_tf.training.curves import draw_curves
from pinets_tf.training.progress import Progress
from pinets_tf.training.replica_model import ReplicaModel
from pinets_tf.training.report import write_report
from pinets_tf.training.run_flags import (
    configuration,
    define_recipe_flags,
    define_run_flags,
    numbers,
    recipe_optimizer,
    reduce_for_sample,
)
from pinets_tf.training.runtime import describe, exit_on_bad_input, exit_on_divergence, set_up
from pinets_tf.training.step_schedule import StepSchedule
from pinets_tf.training.table import print_table
from pinets_tf.training.workdir import open_workdir, write_atomically

__all__ = [
    "Checkpoints",
    "CoupledSGD",
    "Lessons",
    "Progress",
    "ReplicaModel",
    "StepSchedule",
    "configuration",
    "crossentropy",
    "define_recipe_flags",
    "define_run_flags",
    "describe",
    "draw_curves",
    "evaluate_classifier",
    "exit_on_bad_input",
    "exit_on_divergence",
    "fit_classifier",
    "load_classifier",
    "normalization_variables",
    "numbers",
    "open_workdir",
    "print_answers",
    "print_table",
    "recipe_optimizer",
    "reduce_for_sample",
    "results",
    "run_classifier",
    "set_up",
    "write_atomically",
    "write_report",
]
