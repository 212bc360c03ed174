"""What the example trainers share: strategy and precision, XLA, optimizer, checkpoints, progress, reports, pictures."""

from pinets_tf.training.autoencoder import (
    ShapeLessons,
    answers_to,
    count_parameters,
    evaluate_autoencoder,
    load_autoencoder,
    run_autoencoder,
    run_pca,
    standardised_l1,
    vertex_error,
)
from pinets_tf.training.checkpoints import Checkpoints
from pinets_tf.training.classifier import (
    crossentropy,
    evaluate_classifier,
    fit_classifier,
    load_classifier,
    print_answers,
    run_classifier,
)
from pinets_tf.training.coupled_adam import CoupledAdam
from pinets_tf.training.coupled_sgd import CoupledSGD, normalization_variables
from pinets_tf.training.curves import draw_curves
from pinets_tf.training.fitting import Lessons, results
from pinets_tf.training.mesh_pictures import View, draw_reconstructions, draw_strip, write_animation
from pinets_tf.training.progress import Progress
from pinets_tf.training.replica_model import ReplicaModel
from pinets_tf.training.report import write_report
from pinets_tf.training.run_flags import (
    adam_optimizer,
    configuration,
    define_adam_flags,
    define_recipe_flags,
    define_run_flags,
    numbers,
    recipe_optimizer,
    reduce_for_sample,
)
from pinets_tf.training.runtime import Divergence, describe, exit_on_bad_input, exit_on_divergence, set_up
from pinets_tf.training.shape_report import millimetres, shape_errors, write_shape_report
from pinets_tf.training.step_schedule import StepSchedule
from pinets_tf.training.table import print_table
from pinets_tf.training.workdir import open_workdir, write_atomically

__all__ = [
    "Checkpoints",
    "CoupledAdam",
    "CoupledSGD",
    "Divergence",
    "Lessons",
    "Progress",
    "ReplicaModel",
    "ShapeLessons",
    "StepSchedule",
    "View",
    "adam_optimizer",
    "answers_to",
    "configuration",
    "count_parameters",
    "crossentropy",
    "define_adam_flags",
    "define_recipe_flags",
    "define_run_flags",
    "describe",
    "draw_curves",
    "draw_reconstructions",
    "draw_strip",
    "evaluate_autoencoder",
    "evaluate_classifier",
    "exit_on_bad_input",
    "exit_on_divergence",
    "fit_classifier",
    "load_autoencoder",
    "load_classifier",
    "millimetres",
    "normalization_variables",
    "numbers",
    "open_workdir",
    "print_answers",
    "print_table",
    "recipe_optimizer",
    "reduce_for_sample",
    "results",
    "run_autoencoder",
    "run_classifier",
    "run_pca",
    "set_up",
    "shape_errors",
    "standardised_l1",
    "vertex_error",
    "write_animation",
    "write_atomically",
    "write_report",
    "write_shape_report",
]
