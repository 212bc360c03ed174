"""What the training of every network does alike: the run in its workdir, the epochs, the saved model, the result."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pinets_tf.training.checkpoints import Checkpoints
from pinets_tf.training.cluster import alone, broadcast, check_agreement, host_share, hosts, is_chief, join, meet
from pinets_tf.training.curves import draw_curves
from pinets_tf.training.interruption import Interruption
from pinets_tf.training.loop import Loop, NotFiniteLoss
from pinets_tf.training.progress import Progress
from pinets_tf.training.replica_model import ReplicaModel
from pinets_tf.training.run_flags import MAY_DIFFER, configuration
from pinets_tf.training.runtime import (
    Divergence,
    describe,
    exit_on_bad_input,
    exit_on_full_disk,
    exit_on_lost_worker,
    how_it_repeats,
    set_up,
    several_workers,
    surroundings,
)
from pinets_tf.training.shares import scales_loss
from pinets_tf.training.workdir import (
    CONFIG,
    FINGERPRINT,
    TooShort,
    check_length,
    open_workdir,
    read_json,
    save_network,
    write_atomically,
)

MODEL, RESULT, ROLLBACKS = "model.keras", "result.json", "rollbacks.json"


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a network learns from and is tested on.

    Args:
        training: a function from the number of finished epochs to a dataset of all batches that follow.
        steps: a function that returns how many batches an epoch of training has, or says why it has none.
        batch_size: samples in a batch, over all replicas.
        validation: a dataset of batches, looked at after every epoch.
        test: a dataset of batches for the report at the end; may be the same.
        class_names: a name for each class, for a classifier.
        unit: what a sample is, in the plural: "images", "clips", "shapes".
        divided: whether batches for training and validation are not whole ones, the same on each host, but the parts
            of its replicas in turn, as many of them for a batch as there are replicas on a host.
        fingerprint: what tells the data from others, which a run that goes on must not have, or `None`.
    """

    training: Callable[[int], tf.data.Dataset]
    steps: Callable[[], int]
    batch_size: int
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...] = ()
    unit: str = "images"
    divided: bool = False
    fingerprint: str | None = None


def _epochs(lessons):
    from absl.flags import FLAGS

    return "epochs", FLAGS.epochs


def join_workers():
    """Joins the other workers of `TF_CONFIG`, where the flags and it say so, before a script computes anything.

    Without this `run` does it, which is too late for a script that reads its data with TensorFlow before.
    """
    from absl.flags import FLAGS

    if not FLAGS.predict:
        with exit_on_bad_input():
            if several_workers(FLAGS.strategy):
                join(FLAGS.worker_timeout)


def run(
    workdir, lessons, build, *, load, optimizer, fit, evaluate, title, facts, count=None, once=False, length=_epochs
):
    """Trains a network as the flags say, or tests the saved one with `--eval_only`; ends with one line of JSON.

    A run that has ended or was interrupted goes on where it is given more epochs or steps. Settings and data that are
    wrong end the program with the message alone, before the workdir is made.

    Args:
        workdir: the folder of the run.
        lessons: a function that returns `Lessons`.
        build: a function from these to the network.
        load: a function from the workdir to the saved network.
        optimizer: a function from the network and the steps of an epoch to a Keras optimizer.
        fit: a function from network, optimizer and lessons to a dictionary of JSON values, called in the strategy.
        evaluate: a function from network and lessons to one, called on the first process alone.
        title: a line for the terminal.
        facts: what the configuration and the result say beside the flags and the scores.
        count: a function from a network to how many parameters it has; all weights by default.
        once: whether a run that has ended is left as it is, and its result returned.
        length: a function from the lessons to the name of the flag that says how long the run is, `"epochs"` or
            `"steps"`, and how many these are.

    Returns:
        The result, a dictionary of JSON values, as in the `result.json` of the workdir.
    """
    from absl.flags import FLAGS

    workdir = Path(workdir)
    with exit_on_bad_input():
        strategy = set_up(FLAGS.strategy, FLAGS.precision, FLAGS.seed, FLAGS.deterministic, FLAGS.worker_timeout)
    if FLAGS.deterministic and FLAGS.xla == "auto":
        FLAGS["xla"].value = "off"  # A measured choice might be another one the next time.
    with exit_on_lost_worker(workdir), exit_on_full_disk(workdir):
        if FLAGS.eval_only:
            return _test(workdir, lessons, load, evaluate, title, facts, count, strategy)
        with exit_on_bad_input(), strategy.scope():
            material = lessons()
            network = build(material)
            recipe = optimizer(network, material.steps())
            unit, asked = length(material)
            began = read_json(workdir / CONFIG) if is_chief() and (workdir / CONFIG).exists() else {}
            if is_chief():
                config = {**configuration(), **facts, **surroundings(strategy), FINGERPRINT: material.fingerprint}
                open_workdir(workdir, config, may_differ=MAY_DIFFER)
        before = _result_so_far(workdir)
        if once and _agreed(before.get(unit) == asked):
            print(f"{title}: finished")
            return finish(workdir, {})
        _introduce(title, network, count, strategy)
        print(how_it_repeats(strategy, FLAGS.deterministic))
        if began.get(unit, asked) != asked == FLAGS[unit].value:
            print(
                f"--{unit} was {began[unit]} and is {asked} now: history and result are those of the whole run, and "
                f"the learning rate is from here on that of a run with --{unit}={asked} from its beginning"
            )
        rate = FLAGS.learning_rate
        try:
            with strategy.scope():
                result = _fit_with_rollbacks(workdir, network, recipe, material, build, optimizer, fit)
        except TooShort as error:
            if is_chief():
                open_workdir(workdir, began, may_differ=MAY_DIFFER)
            raise SystemExit(f"error: {error}") from error
        finally:
            FLAGS["learning_rate"].value = rate
        if "seconds" in result:
            result["seconds"] = round(result["seconds"] + (before.get("seconds") or 0), 1)
        result = finish(workdir, {**result, **facts})
        # So that no worker ends while another one needs it.
        meet()
    return result


def _test(workdir, lessons, load, evaluate, title, facts, count, strategy):
    """Tests the saved network of a workdir, on the first process alone, and returns the result."""
    result: dict = {}
    if is_chief():
        with exit_on_bad_input():
            config = read_json(workdir / CONFIG) if (workdir / CONFIG).exists() else {}
            with strategy.scope():
                material = lessons()
            network = alone(load, workdir)
            _check_suits(network, material)
            parameters = _introduce(title, network, count, strategy)
            scores = alone(evaluate, network, material)
            # What the run says of itself, and not the flags of now.
            facts = {name: config.get(name, value) for name, value in facts.items()}
            result = finish(workdir, {"parameters": parameters, **scores, **facts})
    meet()
    return result


def _introduce(title, network, count, strategy):
    """Prints what is trained or tested on what, and returns the number of its parameters."""
    from absl.flags import FLAGS

    parameters = count(network) if count else network.count_params()
    print(f"{title}: {parameters:,} parameters, {describe(strategy, FLAGS.precision)}")
    return parameters


def _check_suits(network, lessons):
    """Raises a `ValueError` for data of another kind than those that a saved network was trained on."""
    if not isinstance(lessons, Lessons):
        return
    x, takes, classes = lessons.test.element_spec[0], network.input_shape, len(lessons.class_names)
    if isinstance(x, tf.TensorSpec) and isinstance(takes, tuple) and not x.shape[1:].is_compatible_with(takes[1:]):
        trouble = f"{lessons.unit} of shape {tuple(x.shape[1:])} for a network of {takes[1:]}"
    elif classes and network.output_shape[-1] != classes:
        trouble = f"{classes} classes for a network of {network.output_shape[-1]}"
    else:
        return
    raise ValueError(f"A network is tested on what it was trained for. Received: {trouble}. Pass the same data.")


def _agreed(value):
    """Returns on all processes what the first one says."""
    (value,) = broadcast([np.float32(value)])
    return bool(value)


def _result_so_far(workdir):
    """Returns the result of a workdir, empty where there is none or a damaged one, which is written anew."""
    file = workdir / RESULT
    if not is_chief() or not file.exists():
        return {}
    try:
        return read_json(file)
    except ValueError as error:
        print(f"written anew: {error}")
        file.unlink()
        return {}


def _fit_with_rollbacks(workdir, network, recipe, material, build, optimizer, fit):
    """Calls `fit`, again with a smaller learning rate where the loss was not finite, as often as the flags say.

    How often that was is kept in `rollbacks.json` of the workdir, so that a run that is resumed goes on with that rate.
    """
    from absl.flags import FLAGS

    file, rate = workdir / ROLLBACKS, FLAGS.learning_rate
    with exit_on_bad_input():
        reasons = read_json(file, list) if is_chief() and file.exists() else []
    rolled_back = int(broadcast([np.float32(len(reasons))])[0])
    while True:
        if rolled_back:
            FLAGS["learning_rate"].value = rate * FLAGS.rollback_factor**rolled_back
            print(f"rollback {rolled_back} of {FLAGS.rollbacks}: learning rate {FLAGS.learning_rate:g}")
            keras.utils.set_random_seed(FLAGS.seed)
            network = build(material)
            recipe = optimizer(network, material.steps())
        try:
            return fit(network, recipe, material)
        except Divergence as error:
            if rolled_back >= FLAGS.rollbacks:
                raise
            print(error, flush=True)
            rolled_back += 1
            reasons.append(str(error))
            if is_chief():
                write_atomically(file, json.dumps(reasons, indent=2) + "\n")


def fit_network(network, optimizer, lessons, workdir, *, loss, metrics, epochs, xla, columns, title, remedy):
    """Trains `network` where its workdir left off, saves it, and returns how that went.

    Called inside the scope of the strategy. Writes `model.keras`, `history.csv`, `curves.png` and logs of TensorBoard.

    Args:
        network: a Keras model.
        optimizer: a Keras optimizer; compiled with the network, so that loss scaling is added where it is needed.
        lessons: `Lessons`.
        workdir: the folder of the run, as `open_workdir` returns it.
        loss: a Keras loss.
        metrics: a list of Keras metrics.
        epochs: the number of the last epoch.
        xla: `"auto"`, `"on"` or `"off"`, as in `ReplicaModel.resolve_xla`.
        columns: which columns of the history are drawn.
        title: a line above the curves.
        remedy: what to try when the loss is not finite.

    Returns:
        A dictionary of JSON values: parameters, samples per second, epochs and seconds.

    Raises:
        Divergence: if the loss or the gradient is not finite; the last saved state stays.
        ValueError: if more epochs are done.
    """
    model = ReplicaModel(network)
    model.compile(optimizer, loss=loss, metrics=metrics)
    steps = lessons.steps()
    interruption = Interruption(together=hosts()[1] > 1)
    checkpoints = Checkpoints(workdir, steps, interruption, remedy)
    with exit_on_bad_input():
        first_epoch = checkpoints.restore(model)
    first_step = checkpoints.first_step
    check_length(workdir, "epochs", epochs, first_epoch + (first_step > 0))
    if first_epoch < epochs:
        share = max(1, lessons.batch_size // tf.distribute.get_strategy().num_replicas_in_sync)
        print(model.resolve_xla(xla, [part[:share] for part in next(iter(lessons.training(first_epoch)))]))
    if first_epoch:
        print(
            f"going on after epoch {first_epoch} of {epochs}" if first_epoch < epochs else f"finished: {epochs} epochs"
        )
    if first_step:
        print(f"going on after step {first_step} of {steps} of epoch {first_epoch + 1}")
    started = time.perf_counter()
    progress = Progress(epochs, steps, lessons.batch_size, lessons.unit, first_step)
    loop = Loop(model, lessons, [progress, checkpoints], interruption, workdir / "tensorboard")
    with exit_on_full_disk(workdir), interruption:
        try:
            loop.run(first_epoch, epochs, first_step)
        except NotFiniteLoss as error:
            raise _divergence(error, model, lessons, checkpoints, remedy) from error
    check_agreement(network.weights)
    if not is_chief():
        return {}
    result = {
        "parameters": network.count_params(),
        "epochs": epochs,
        "seconds": round(time.perf_counter() - started, 1),
    }
    with exit_on_full_disk(workdir):
        save_network(network, workdir / MODEL)
        if checkpoints.history:  # Which may have been deleted.
            draw_curves({title: checkpoints.history_file}, workdir / "curves.png", columns)
            speed = f"{lessons.unit}_per_second"
            result[speed] = round(float(checkpoints.history[-1][speed]), 1)
    return result


def first_bad_number(network, x):
    """Returns the first number of a network in training that is not finite, as `analysis.first_not_finite` does."""
    from pinets_tf.analysis import first_not_finite

    for statistic in network.non_trainable_variables:
        # What the step has made of moving statistics, which it does not use, is no cause.
        if not np.isfinite(ops.convert_to_numpy(statistic)).all():
            statistic.assign(ops.zeros(statistic.shape, statistic.dtype))
    return first_not_finite(network, x, training=True)


def _divergence(error, model, lessons, checkpoints, remedy):
    """Returns the end of the program that says where the numbers of a step stopped being finite, and what is kept."""
    epoch, step = divmod(error.step - 1, lessons.steps())
    found = None
    if is_chief():
        parts = host_share()[2] if lessons.divided else 1
        (batch,) = lessons.training(epoch).skip(step * parts).take(1)
        found = alone(first_bad_number, model.network, batch[0])
    place = f"there, {found}" if found else "there, which its forward pass alone does not show again"
    scale = ""
    if scales_loss(model.optimizer):
        scale = f", loss scale {float(ops.convert_to_numpy(model.optimizer.dynamic_scale)):g}"
    kept = checkpoints.file if checkpoints.file.exists() else "no state, since no epoch was whole"
    return Divergence(
        "error: A training ends when its loss or its gradient is not finite. Received: that of step "
        f"{step + 1} of {lessons.steps()} of epoch {epoch + 1}{scale}; {place}. Kept: {kept}. {remedy}"
    )


def load_network(workdir, name=MODEL):
    """Returns the network of a workdir that is saved under `name`.

    Raises:
        ValueError: if it cannot be loaded.
    """
    model = Path(workdir) / name
    try:
        return keras.models.load_model(model)
    except Exception as error:  # Of many classes, those of Keras, of HDF5 and of zip files.
        raise ValueError(
            f"A trained network is a {name} that loads. Received: {model} ({type(error).__name__}: {error}). "
            "Run the training again, which goes on from its checkpoint, or copy the file again."
        ) from error


def finish(workdir, result):
    """Adds `result` to the JSON in the workdir of a run, and prints and returns all of it as one line.

    Of several processes the first one does so, and the others return `result`.
    """
    if not is_chief():
        return result
    result = {**_result_so_far(Path(workdir)), **result, "workdir": str(workdir)}
    # JSON has no word for a number that is none.
    result = {key: None if value != value or value in (math.inf, -math.inf) else value for key, value in result.items()}
    write_atomically(Path(workdir) / RESULT, json.dumps(result) + "\n")
    print(json.dumps(result))
    return result


def results(folder):
    """Returns the results of all runs in and below a folder.

    Raises:
        ValueError: if one of them is no JSON object.
    """
    return [read_json(path) for path in sorted(Path(folder).rglob(RESULT))]
