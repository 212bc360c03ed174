"""Training, evaluation and answers of a classifier: what the trainers of Sec. 4.2 and 5.2 do alike."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pinets_tf.files import shown
from pinets_tf.training.cluster import alone, is_chief
from pinets_tf.training.fitting import MODEL, fit_network, load_network, run
from pinets_tf.training.report import write_report
from pinets_tf.training.run_flags import recipe_optimizer
from pinets_tf.training.workdir import write_atomically

LABELS = "labels.txt"


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
    return run(
        workdir,
        lessons,
        build,
        load=lambda folder: load_classifier(folder)[0],
        optimizer=recipe_optimizer,
        fit=lambda network, optimizer, material: fit_classifier(
            network,
            optimizer,
            material,
            workdir,
            epochs=FLAGS.epochs,
            xla=FLAGS.xla,
            label_smoothing=FLAGS.label_smoothing,
            title=title,
            remedy=remedy,
        ),
        evaluate=lambda network, material: evaluate_classifier(network, material, workdir),
        title=title,
        facts=facts,
    )


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
        Divergence: if the loss is not finite; the last saved state stays.
    """
    metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    if len(lessons.class_names) > 5:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, name="top_5"))
    went = fit_network(
        network,
        optimizer,
        lessons,
        workdir,
        loss=crossentropy(label_smoothing),
        metrics=metrics,
        epochs=epochs,
        xla=xla,
        columns=("loss", "accuracy"),
        title=title,
        remedy=remedy,
    )
    if not is_chief():
        return went
    write_atomically(workdir / LABELS, "".join(f"{name}\n" for name in lessons.class_names))
    return {**alone(evaluate_classifier, network, lessons, workdir), **went}


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
    return load_network(workdir), tuple(names.read_text(encoding="utf-8").splitlines())


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
        print(f"{shown(file)}, by {shown(workdir)}:")
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
