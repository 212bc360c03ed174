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
from pinets_tf.training.cluster import host_share, hosts, is_chief, meet
from pinets_tf.training.coupled_adam import CoupledAdam
from pinets_tf.training.coupled_sgd import CoupledSGD, normalization_variables
from pinets_tf.training.curves import draw_curves
from pinets_tf.training.fitting import Lessons, join_workers, results
from pinets_tf.training.gan import GanLessons, fit_gan, load_adversaries, load_generator, run_gan
from pinets_tf.training.gan_average import settle_statistics
from pinets_tf.training.gan_flags import define_gan_flags, gan_optimizers, gan_recipe
from pinets_tf.training.gan_report import (
    define_score_flags,
    draw_generator,
    draw_latents,
    pixels_of,
    print_scores,
    report_generator,
    score_extractor,
    score_generator,
)
from pinets_tf.training.gan_step import Adversaries, GanRecipe
from pinets_tf.training.interruption import Interruption
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
from pinets_tf.training.runtime import Divergence, describe, exit_on_bad_input, set_up
from pinets_tf.training.sample_pictures import draw_contributions, draw_interpolation, interpolate, write_grid
from pinets_tf.training.shape_report import millimetres, shape_errors, write_shape_report
from pinets_tf.training.shares import average_statistics
from pinets_tf.training.step_schedule import StepSchedule
from pinets_tf.training.table import print_table
from pinets_tf.training.workdir import open_workdir, write_atomically

__all__ = [
    "Adversaries",
    "Checkpoints",
    "CoupledAdam",
    "CoupledSGD",
    "Divergence",
    "GanLessons",
    "GanRecipe",
    "Interruption",
    "Lessons",
    "Progress",
    "ReplicaModel",
    "ShapeLessons",
    "StepSchedule",
    "View",
    "adam_optimizer",
    "answers_to",
    "average_statistics",
    "configuration",
    "count_parameters",
    "crossentropy",
    "define_adam_flags",
    "define_gan_flags",
    "define_recipe_flags",
    "define_run_flags",
    "define_score_flags",
    "describe",
    "draw_contributions",
    "draw_curves",
    "draw_generator",
    "draw_interpolation",
    "draw_latents",
    "draw_reconstructions",
    "draw_strip",
    "evaluate_autoencoder",
    "evaluate_classifier",
    "exit_on_bad_input",
    "fit_classifier",
    "fit_gan",
    "gan_optimizers",
    "gan_recipe",
    "host_share",
    "hosts",
    "interpolate",
    "is_chief",
    "join_workers",
    "load_adversaries",
    "load_autoencoder",
    "load_classifier",
    "load_generator",
    "meet",
    "millimetres",
    "normalization_variables",
    "numbers",
    "open_workdir",
    "pixels_of",
    "print_answers",
    "print_scores",
    "print_table",
    "recipe_optimizer",
    "reduce_for_sample",
    "report_generator",
    "results",
    "run_autoencoder",
    "run_classifier",
    "run_gan",
    "run_pca",
    "score_extractor",
    "score_generator",
    "set_up",
    "settle_statistics",
    "shape_errors",
    "standardised_l1",
    "vertex_error",
    "write_animation",
    "write_atomically",
    "write_grid",
    "write_report",
    "write_shape_report",
]
