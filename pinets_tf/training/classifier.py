"""Training, evaluation and answers of a classifier: what the trainers of Sec. 4.2 and 5.2 do alike."""

import dataclasses
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pinets_tf.training.checkpoints import Checkpoints
from pinets_tf.training.curves import draw_curves
from pinets_tf.training.progress import Progress
from pinets_tf.training.replica_model import ReplicaModel
from pinets_tf.training.report import write_report
from pinets_tf.training.run_flags import MAY_DIFFER, configuration, recipe_optimizer
from pinets_tf.training.runtime import describe, exit_on_bad_input, exit_on_divergence, set_up
from pinets_tf.training.workdir import open_workdir, write_atomically

MODEL, LABELS, RESULT = "model.keras", "labels.txt", "result.json"


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a classifier learns from and is tested on.

    Args:
        training: a function from the number of finished epochs to a dataset of all batches that follow.
        steps: a function that returns how many batches an epoch of training has, or says why it has none.
        batch_size: samples in a batch, over all replicas.
        validation: a dataset of batches, looked at after every epoch.
        test: a dataset of batches for the report at the end; may be the same.
        class_names: a name for each class.
        unit: what a sample is, in the plural: "images", "clips".
    """

    training: Callable[[int], tf.data.Dataset]
    steps: Callable[[], int]
    batch_size: int
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    unit: str = "images"


def run_classifier(workdir, lessons, build, *, title, remedy, facts):
    """Trains a network as the flags say, or tests the saved one with `--eval_only`; ends with one line of JSON.

    Settings and data that are wrong end the program with the message alone, before the workdir is made.

    Args:
        workdir: the folder of the run.
        lessons: a function that returns `Lessons`.
        build: a function from these to the network.
        title: a line above the curves.
        remedy: what to try when the loss is not finite.
        facts: what the configuration and the result say beside the flags and the scores.

    Returns:
        The result, a dictionary of JSON values, as in the `result.json` of the workdir.
    """
    from absl.flags import FLAGS

    workdir = Path(workdir)
    strategy = set_up(FLAGS.strategy, FLAGS.precision, FLAGS.seed)
    with exit_on_bad_input(), strategy.scope():
        material = lessons()
        network = load_classifier(workdir)[0] if FLAGS.eval_only else build(material)
        if not FLAGS.eval_only:
            optimizer = recipe_optimizer(network, material.steps())
            open_workdir(workdir, {**configuration(), **facts}, may_differ=MAY_DIFFER)
    print(f"{title}: {network.count_params():,} parameters, {describe(strategy, FLAGS.precision)}")
    with strategy.scope():
        if FLAGS.eval_only:
            return _finish(workdir, evaluate_classifier(network, material, workdir))
        result = fit_classifier(
            network,
            optimizer,
            material,
            workdir,
            epochs=FLAGS.epochs,
            xla=FLAGS.xla,
            label_smoothing=FLAGS.label_smoothing,
            title=title,
            remedy=remedy,
        )
    return _finish(workdir, {**result, **facts})


def fit_classifier(
    network, optimizer, lessons, workdir, *, epochs, xla="auto", label_smoothing=0.0, title="", remedy=""
):
    """Trains `network` where its workdir left off, saves it, and returns what came out.

    Called inside the scope of the strategy. Writes `model.keras`, `labels.txt`, `history.csv`, `curves.png`, logs of
    TensorBoard, and what `evaluate_classifier` writes.

    Args:
        network: a Keras model from a batch to logits.
        optimizer: a Keras optimizer; compiled with the network, so that loss scaling is added where it is needed.
        lessons: `Lessons`.
        workdir: the folder of the run, as `open_workdir` returns it.
        epochs: the number of the last epoch.
        xla: `"auto"`, `"on"` or `"off"`, as in `ReplicaModel.resolve_xla`.
        label_smoothing: probability that is taken from the right class and spread over all classes.
        title: a line above the curves.
        remedy: what to try when the loss is not finite.

    Returns:
        A dictionary of JSON values: that of `evaluate_classifier`, with parameters, samples per second, epochs and
        seconds.

    Raises:
        SystemExit: if the loss is not finite.
    """
    model = ReplicaModel(network)
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if len(lessons.class_names) > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5"))
    model.compile(optimizer, loss=crossentropy(label_smoothing), metrics=metrics)
    steps = lessons.steps()
    checkpoints = Checkpoints(workdir, steps)
    first_epoch = checkpoints.restore(model)
    batches = lessons.training(first_epoch)
    if first_epoch < epochs:
        share = lessons.batch_size // tf.distribute.get_strategy().num_replicas_in_sync
        print(model.resolve_xla(xla, [part[:share] for part in next(iter(batches))]))
    if first_epoch:
        print(f"going on after epoch {first_epoch} of {epochs}")
    started = time.perf_counter()
    with exit_on_divergence(remedy), warnings.catch_warnings():
        # Keras 3.15 says so at the end of a validation whose length it does not know.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        model.fit(
            batches,
            validation_data=lessons.validation,
            initial_epoch=first_epoch,
            epochs=epochs,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 0,
            callbacks=[
                Progress(epochs, steps, lessons.batch_size, lessons.unit),
                checkpoints,
                keras.callbacks.TerminateOnNaN(raise_error=True),
                keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False),
            ],
        )
    network.save(workdir / MODEL)
    write_atomically(workdir / LABELS, "".join(f"{name}\n" for name in lessons.class_names))
    draw_curves({title: checkpoints.history_file}, workdir / "curves.png")
    speed = f"{lessons.unit}_per_second"
    return {
        **evaluate_classifier(network, lessons, workdir),
        "parameters": network.count_params(),
        speed: round(float(checkpoints.history[-1][speed]), 1),
        "epochs": epochs,
        "seconds": round(time.perf_counter() - started, 1),
    }


def evaluate_classifier(network, lessons, workdir):
    """Tests `network` on `lessons.test`: writes and prints the report, returns accuracy, top-5 accuracy and loss."""
    answer = tf.function(lambda batch: network(batch, training=False))
    scores, labels = zip(*((np.asarray(answer(x)), np.asarray(y)) for x, y in lessons.test))
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    print(write_report(labels, scores, lessons.class_names, workdir))
    loss = ops.mean(keras.losses.sparse_categorical_crossentropy(labels, scores, from_logits=True))
    # An overflow on the way, as a polynomial may have on a single sample, names no class.
    scores = np.where(np.isnan(scores), -np.inf, scores)
    result = {"accuracy": round(float(np.mean(scores.argmax(-1) == labels)), 4), "loss": round(float(loss), 4)}
    if scores.shape[1] > 5:
        five = np.argsort(-scores, axis=-1, kind="stable")[:, :5]
        result["top_5"] = round(float(np.mean((five == labels[:, None]).any(-1))), 4)
    return result


def load_classifier(workdir):
    """Returns the saved network of a workdir and its class names.

    Raises:
        ValueError: if there is none, or it cannot be loaded.
    """
    model, names = Path(workdir) / MODEL, Path(workdir) / LABELS
    if not model.is_file() or not names.is_file():
        raise ValueError(
            f"A trained network is a folder with {MODEL} and {LABELS}. Received: {workdir}, which lacks one of them. "
            "Train first, with the same command without --eval_only and --predict."
        )
    try:
        network = keras.models.load_model(model)
    except Exception as error:  # Of many classes, those of Keras, of HDF5 and of zip files.
        raise ValueError(
            f"A trained network is a {MODEL} that loads. Received: {model} ({type(error).__name__}: {error}). "
            "Train again with another --workdir, or copy the file again."
        ) from error
    return network, tuple(names.read_text(encoding="utf-8").splitlines())


def print_answers(workdir, files, read, count=5):
    """Prints the classes that the saved network of a workdir finds most probable for each file, best first.

    Args:
        workdir: the folder of a run.
        files: paths.
        read: a function from a path and the shape of one input to that input.
        count: how many classes to print.
    """
    network, class_names = load_classifier(workdir)
    for file in files:
        sample = read(file, network.input_shape[1:])
        probabilities = ops.convert_to_numpy(ops.softmax(network(sample[None], training=False)))[0]
        print(f"{file}, by {workdir}:")
        for index in np.argsort(-probabilities, kind="stable")[:count]:
            print(f"  {probabilities[index]:.3f}  {class_names[index]}")


def crossentropy(label_smoothing=0.0):
    """Returns the cross entropy of integer labels and logits, with smoothed labels where asked."""
    if not label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed_crossentropy(labels, logits):
        labels = ops.one_hot(ops.reshape(ops.cast(labels, "int32"), (-1,)), logits.shape[-1])
        return keras.losses.categorical_crossentropy(labels, logits, from_logits=True, label_smoothing=label_smoothing)

    return smoothed_crossentropy


def _finish(workdir, result):
    """Adds `result` to the JSON in the workdir of a run, and prints and returns all of it as one line."""
    file = Path(workdir) / RESULT
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    result = {**before, **result, "workdir": str(workdir)}
    # JSON has no word for a number that is none.
    result = {key: None if value != value or value in (math.inf, -math.inf) else value for key, value in result.items()}
    write_atomically(file, json.dumps(result) + "\n")
    print(json.dumps(result))
    return result


def results(folder):
    """Returns the results of all runs in and below a folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).rglob(RESULT))]
