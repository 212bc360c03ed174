"""The tests of the errors that docstrings of `pinets_tf.training` document."""

import contextlib
import socket

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.flags import FLAGS, DEFINE_float

from pinets_tf import launch, training
from pinets_tf.training import checkpoints, cluster, fitting, gan_checkpoints
from pinets_tf.training.fitting import results
from tests.documented_errors.provoking import Case, dense, fails, without, written

SHAPE, FACES = np.eye(3)[None], np.array([[0, 1, 2]])


@contextlib.contextmanager
def flags(define, *arguments, **options):
    before = set(FLAGS)
    define(**options)
    try:
        FLAGS([__name__, *arguments])
        yield
    finally:
        for name in set(FLAGS) - before:
            delattr(FLAGS, name)


RECIPE = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "weight_decay": 0.0, "milestones": (1,)}


def recipe(*arguments, read=lambda: training.recipe_optimizer(dense(), 4)):
    with flags(training.define_recipe_flags, *arguments, **RECIPE):
        read()


def parsed_by_a_script(*arguments):
    def define():
        training.define_run_flags()
        training.define_recipe_flags(**RECIPE)
        DEFINE_float("azimuth", 25, "A flag of the script.")

    with flags(define, "--workdir=run", *arguments):
        pass


def scored(*arguments):
    with flags(training.define_score_flags, *arguments):
        training.score_extractor()


def configured(text, provoke):
    """Returns `provoke` where that is the `TF_CONFIG`."""

    def provoke_configured(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TF_CONFIG", text)
            provoke()

    return provoke_configured


def alone(provoke):
    """Returns `provoke` as the first of two workers, of which nothing listens at the port of the second."""

    def provoke_alone(path):
        (port,) = launch._free_ports(1)
        configured(launch.tf_config([f"localhost:{port}", "localhost:1"], 0), provoke)(path)

    return provoke_alone


def agree_with_another_worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_joined", [None])
        patch.setattr(cluster, "broadcast", lambda values: [value + 1 for value in values])
        cluster.check_agreement([np.ones(3)])


def wait_at_a_taken_port():
    with socket.create_server(("", 0)) as other:
        cluster.wait_for([f"localhost:{other.getsockname()[1]}"], 0, 0)


def diverge(path):
    batches = tf.data.Dataset.from_tensors((np.full((4, 4), np.nan, "float32"), np.zeros(4, "int32")))
    lessons = training.Lessons(lambda epoch: batches.repeat(), lambda: 1, 4, batches, batches, ("a", "b"))
    training.fit_classifier(dense(), keras.optimizers.SGD(), lessons, path, epochs=1, xla="off", remedy="Lower it.")


def fewer_epochs(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "restore", lambda self, model: 2)
        diverge(path)


def damage(path):
    (path / "result.json").write_text("[]")
    results(path)


MATPLOTLIB = ("Pictures are drawn with matplotlib", "it is not installed", "pip install 'pinets_tf[examples]'")


NO_NETWORK = (".keras that loads", "(ValueError: ", "or copy the file again")


NO_WORKER = (
    "A training starts when all its workers can be reached",
    "no answer from worker 1 (localhost:1) within 0 s",
    "or pass a longer --worker_timeout",
)


DIVERGES = Case(
    diverge,
    "A training ends when its loss or its gradient is not finite",
    "that of step 1 of 1 of epoch 1",
    "Lower it.",
)


DAMAGED = Case(
    damage, "What a run writes about itself is a JSON object", "result.json, which is none", "Delete the file"
)


TESTED: dict[str, dict[str, list[str | Case]]] = {
    "training.autoencoder.load_autoencoder": {
        "ValueError": [
            "tests/training/test_autoencoder.py::test_a_workdir_without_a_network",
            Case(lambda path: training.load_autoencoder(written(path / "model.keras").parent), *NO_NETWORK),
        ],
    },
    "training.autoencoder.run_pca": {"ImportError": ["tests/training/test_autoencoder.py::test_missing_extras"]},
    "training.checkpoints.rows_until": {
        "ValueError": [
            Case(
                lambda path: checkpoints.rows_until(written(path / "history.csv", b"step,loss\n1,2\n"), "epoch", 1),
                "A history is a table with a column of integers, epoch",
                "history.csv, which cannot be read (KeyError",
                "Delete it to go on without",
            )
        ]
    },
    "training.checkpoints.Checkpoints.restore": {
        "ValueError": ["tests/training/test_training.py::test_damaged_checkpoint"],
    },
    "training.classifier.fit_classifier": {
        "Divergence": [DIVERGES],
    },
    "training.classifier.load_classifier": {
        "ValueError": ["tests/training/test_classifier.py::test_errors_of_a_saved_network"],
    },
    "training.cluster.workers": {
        "ValueError": [
            Case(
                configured("nothing", cluster.workers),
                "TF_CONFIG lists the addresses of the workers",
                "TF_CONFIG=nothing (",
                "Pass for example",
            ),
            Case(
                configured(launch.tf_config(["host1:8470"], 1), cluster.workers),
                "says which of them this process is",
                "(no address for the task worker 1)",
                "Pass for example",
            ),
            Case(
                configured(launch.tf_config([8470, 8471], 0), cluster.workers),
                "lists the addresses of the workers",
                "(8470 is no host with a port from 1 to 65535)",
                "Pass for example",
            ),
        ],
    },
    "training.cluster.join": {
        "ValueError": [
            Case(
                configured("", lambda: cluster.join(0)),
                "Several workers find each other through TF_CONFIG",
                "with 0 workers",
                "Start them with python -m pinets_tf.launch",
            )
        ],
        "TimeoutError": [Case(alone(lambda: cluster.join(0)), *NO_WORKER)],
    },
    "training.cluster.wait_for": {
        "ValueError": [
            Case(
                lambda path: wait_at_a_taken_port(),
                "A worker listens at the port of its address",
                "worker 0 at localhost:",
                "Pass another port",
            )
        ],
        "TimeoutError": [Case(alone(lambda: cluster.wait_for(*cluster.workers(), 0)), *NO_WORKER)],
    },
    "training.cluster.check_agreement": {
        "RuntimeError": [
            Case(
                lambda path: agree_with_another_worker(),
                "All workers end with the same weights",
                "worker 0 with others than worker 0 (checksums",
                "train again with another --workdir",
            )
        ]
    },
    "training.coupled_adam.CoupledAdam": {
        "ValueError": ["tests/training/test_autoencoder.py::test_weight_decay_goes_through_the_moments"],
    },
    "training.coupled_sgd.CoupledSGD": {
        "ValueError": ["tests/training/test_training.py::test_weight_decay_goes_through_the_momentum"],
    },
    "training.curves.draw_curves": {"ImportError": ["tests/training/test_training.py::test_curves"]},
    "training.fitting.fit_network": {
        "Divergence": [DIVERGES],
        "ValueError": [
            Case(
                fewer_epochs,
                "A run is given as many epochs as it has done, or more",
                "which has begun or done 2",
                "Pass --epochs=2 or more",
            )
        ],
    },
    "training.fitting.results": {"ValueError": [DAMAGED]},
    "training.fitting.load_network": {
        "ValueError": [Case(fitting.load_network, "model.keras that loads", *NO_NETWORK[1:])]
    },
    "training.gan.fit_gan": {
        "Divergence": ["tests/training/test_gan.py::test_divergence"],
        "ValueError": [
            "tests/training/test_gan.py::test_errors_of_networks_and_images",
        ],
    },
    "training.gan.load_generator": {"ValueError": ["tests/training/test_gan.py::test_errors_of_networks_and_images"]},
    "training.gan.load_adversaries": {"ValueError": [Case(training.load_adversaries, *NO_NETWORK)]},
    "training.gan_average.settle_statistics": {
        "ValueError": ["tests/training/test_gan.py::test_settled_statistics_are_those_of_the_weights"],
    },
    "training.gan_checkpoints.GanCheckpoints.save": {"Divergence": ["tests/training/test_gan.py::test_divergence"]},
    "training.gan_checkpoints.GanCheckpoints.restore": {
        "ValueError": ["tests/training/test_gan.py::test_checkpoint_that_does_not_load"],
    },
    "training.gan_checkpoints.GanHistory.draw": {
        "ImportError": [
            Case(
                without(
                    "matplotlib.figure",
                    lambda path: gan_checkpoints.GanHistory(path, 0).draw(path / "a.png", (), ""),
                ),
                *MATPLOTLIB,
            )
        ],
    },
    "training.gan_report.score_extractor": {
        "FileNotFoundError": [
            Case(
                lambda path: scored("--inception=none.pb"),
                "FID, IS and KID are scores of the frozen graph",
                "'none.pb', which is not in",
                "Put it there, or score with another network",
            ),
        ],
        "ValueError": [
            Case(
                lambda path: scored(f"--efficientnet_lite0={written(path / 'weights.npz')}"),
                "EfficientNet-Lite0 has its weights from",
                "weights.npz (7 bytes), which cannot be read",
                "copy it again",
            ),
            Case(
                lambda path: scored("--inception=a", "--efficientnet_lite0=b"),
                "Scores are those of one network",
                "--inception=a and --efficientnet_lite0=b",
                "Pass one",
            ),
        ],
    },
    "training.gan_step.GanRecipe": {"ValueError": ["tests/training/test_gan.py::test_recipe_errors"]},
    "training.gan_step.Adversaries": {
        "ValueError": ["tests/training/test_gan.py::test_errors_of_networks_and_images"],
    },
    "training.interruption.Interruption.leave": {
        "SystemExit": ["tests/training/test_interruption.py::test_leaving_says_what_is_saved"],
    },
    "training.loop.Loop.run": {"NotFiniteLoss": [DIVERGES]},
    "training.mesh_pictures.draw_reconstructions": {
        "ImportError": [
            Case(
                without(
                    "matplotlib.figure",
                    lambda path: training.draw_reconstructions(SHAPE, SHAPE, ["a"], FACES, path / "a.png"),
                ),
                *MATPLOTLIB,
            )
        ],
    },
    "training.mesh_pictures.draw_strip": {"ImportError": ["tests/training/test_autoencoder.py::test_missing_extras"]},
    "training.mesh_pictures.write_animation": {
        "ImportError": [
            Case(
                without("matplotlib.figure", lambda path: training.write_animation(SHAPE, FACES, path / "a.gif")),
                *MATPLOTLIB,
            )
        ],
    },
    "training.report.write_report": {
        "ImportError": ["tests/training/test_report.py::test_missing_extra"],
        "ValueError": ["tests/training/test_report.py::test_bad_input"],
    },
    "training.run_flags.recipe_optimizer": {
        "ValueError": [
            Case(
                lambda path: recipe("--milestones=1,two"),
                "--milestones lists numbers with commas between them",
                "--milestones=1,two",
                "Pass for example --milestones=1",
            ),
            Case(
                lambda path: recipe("--warm_up_epochs=2"),
                "The learning rate falls after the warm-up",
                "warm_up_steps=8, milestones=[4]",
                "Pass a shorter warm-up",
            ),
        ],
    },
    "training.run_flags.define_run_flags": {
        "IllegalFlagValueError": [
            Case(
                lambda path, given=f"--{name}={number}": parsed_by_a_script(given),
                "Flags that are numbers are finite",
                f"--{name}={number}. ",
                f"Pass for example --{name}={default}",
            )
            # The last one is that of a script.
            for name, number, default in [
                ("rollback_factor", "nan", 0.5),
                ("warm_up_epochs", "inf", 0.0),
                ("learning_rate", "nan", 0.1),
                ("azimuth", "-inf", 25),
            ]
        ],
    },
    "training.run_flags.numbers": {
        "ValueError": [
            Case(
                lambda path: recipe("--milestones=1.5", read=lambda: training.numbers("milestones")),
                "--milestones lists numbers with commas between them",
                "--milestones=1.5",
                "Pass for example --milestones=1",
            )
        ],
    },
    "training.runtime.set_up": {
        "ValueError": ["tests/training/test_training.py::test_set_up"],
        "TimeoutError": [Case(alone(lambda: training.set_up("multi_worker", worker_timeout=0)), *NO_WORKER)],
    },
    "training.sample_pictures.write_grid": {"ValueError": ["tests/training/test_sample_pictures.py::test_bad_grids"]},
    "training.sample_pictures.interpolate": {
        "ValueError": ["tests/training/test_sample_pictures.py::test_bad_interpolations"],
    },
    "training.sample_pictures.draw_interpolation": {
        "ValueError": [
            "tests/training/test_sample_pictures.py::test_strip_runs_from_source_to_target",
            Case(
                lambda path: training.draw_interpolation(fails, np.zeros((2, 3)), np.zeros((1, 3)), path / "a.png"),
                "Latents are interpolated between two arrays of one shape",
                "shapes (2, 3) and (1, 3)",
                "Pass one source for each target",
            ),
        ],
    },
    "training.sample_pictures.draw_contributions": {
        "ImportError": ["tests/training/test_sample_pictures.py::test_bad_contributions"],
        "ValueError": ["tests/training/test_sample_pictures.py::test_bad_contributions"],
    },
    "training.shape_report.shape_errors": {
        "ValueError": ["tests/training/test_autoencoder.py::test_errors_of_the_report"]
    },
    "training.step_schedule.StepSchedule": {
        "ValueError": [
            "tests/training/test_classifier.py::test_schedule_refuses_milestones_in_the_warm_up",
            Case(
                lambda path: training.StepSchedule(0.1, warm_up_steps=-1),
                "A warm-up has 0 steps or more",
                "warm_up_steps=-1",
                "Pass 0 for none",
            ),
        ],
    },
    "training.workdir.read_json": {"ValueError": [DAMAGED]},
    "training.workdir.open_workdir": {
        "PermissionError": ["tests/training/test_training.py::test_unwritable_workdir"],
        "ValueError": [
            "tests/training/test_training.py::test_workdir_belongs_to_one_configuration",
            "tests/training/test_training.py::test_one_process_writes_into_a_workdir",
        ],
    },
}
