"""What the example trainers share: strategy and precision, XLA, optimizer, checkpoints, progress, pictures."""

from pinets_tf.training.checkpoints import Checkpoints
from pinets_tf.training.coupled_sgd import CoupledSGD
from pinets_tf.training.curves import draw_curves
from pinets_tf.training.progress import Progress
from pinets_tf.training.replica_model import ReplicaModel
from pinets_tf.training.runtime import describe, exit_on_bad_input, exit_on_divergence, set_up
from pinets_tf.training.workdir import open_workdir, write_atomically

__all__ = [
    "Checkpoints",
    "CoupledSGD",
    "Progress",
    "ReplicaModel",
    "describe",
    "draw_curves",
    "exit_on_bad_input",
    "exit_on_divergence",
    "open_workdir",
    "set_up",
    "write_atomically",
]
