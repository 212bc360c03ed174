"""Training and evaluation of an autoencoder of shapes: what Sec. 5.3 trains, measures and shows."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pinets_tf.training.cluster import alone, is_chief
from pinets_tf.training.coupled_sgd import normalization_variables
from pinets_tf.training.fitting import MODEL, Lessons, finish, fit_network, load_network, run
from pinets_tf.training.mesh_pictures import View, draw_reconstructions, draw_strip, write_animation
from pinets_tf.training.run_flags import adam_optimizer
from pinets_tf.training.shape_report import millimetres, shape_errors, write_shape_report

STEPS_OF_A_STRIP = 7
FRAMES = 18
TIMED_CALLS = 30
LIMITS_OF = 50  # Test shapes that say how large the pictures are.


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeLessons(Lessons):
    """What an autoencoder of shapes learns from and is tested on; batches are pairs of the same vertices.

    Args:
        vertices: the training shapes, (n, V, 3) in millimetres.
        test_vertices: the test shapes, alike.
        test_names: a name for each test shape.
        faces: the triangles of the template.
        deviation: standard deviation of each coordinate over the training shapes, (V, 3) in millimetres.
        view: from where the shapes are drawn.
    """

    vertices: np.ndarray
    test_vertices: np.ndarray
    test_names: tuple[str, ...]
    faces: np.ndarray
    deviation: np.ndarray
    view: View = dataclasses.field(default_factory=View)
    unit: str = "shapes"


def run_autoencoder(workdir, lessons, build, halves, *, title, remedy, facts):
    """Trains an autoencoder as the flags say, or tests the saved one with `--eval_only`; ends with one line of JSON.

    A run that has ended is left as it is. Settings and data that are wrong end the program with the message alone,
    before the workdir is made.

    Args:
        workdir: the folder of the run.
        lessons: a function that returns `ShapeLessons`.
        build: a function from these to the network.
        halves: a function from the network to its encoder and its decoder, Keras models.
        title: a line above the curves.
        remedy: what to try when the loss is not finite.
        facts: what the configuration and the result say beside the flags and the scores.

    Returns:
        The result, a dictionary of JSON values, as in the `result.json` of the workdir.
    """
    from absl.flags import FLAGS

    workdir = Path(workdir)

    def evaluate(network, material):
        return evaluate_autoencoder(network, halves, material, workdir, title=title, seed=FLAGS.seed)

    def fit(network, optimizer, material):
        went = fit_network(
            network,
            optimizer,
            material,
            workdir,
            loss=standardised_l1(material.deviation),
            metrics=[keras.metrics.MeanMetricWrapper(vertex_error, name="vertex_error_mm")],
            epochs=FLAGS.epochs,
            xla=FLAGS.xla,
            columns=("loss", "vertex_error_mm"),
            title=title,
            remedy=remedy,
        )
        return {**(alone(evaluate, network, material) if is_chief() else {}), **went, **count_parameters(network)}

    return run(
        workdir,
        lessons,
        build,
        load=load_autoencoder,
        optimizer=adam_optimizer,
        fit=fit,
        evaluate=evaluate,
        title=title,
        facts=facts,
        count=lambda network: count_parameters(network)["parameters"],
        once=True,
    )


def load_autoencoder(workdir):
    """Returns the saved network of a workdir.

    Raises:
        ValueError: if there is none, or it cannot be loaded.
    """
    if not (Path(workdir) / MODEL).is_file():
        raise ValueError(
            f"A trained network is a folder with {MODEL}. Received: {workdir}, which has none. "
            "Train first, with the same command without --eval_only and --predict."
        )
    return load_network(workdir)


def standardised_l1(deviation):
    """Returns the loss: the mean absolute difference of coordinates, each in units of its deviation if it has one."""
    scale = np.asarray(1 / np.where(np.asarray(deviation) > 0, deviation, 1), "float32")

    def standardised_l1(vertices, answers):
        # In float32 also where the network computes in 16 bits: rounding a coordinate would be the larger error.
        difference = ops.subtract(ops.cast(answers, "float32"), ops.cast(vertices, "float32"))
        return ops.mean(ops.abs(ops.multiply(difference, scale)), axis=(-2, -1))

    return standardised_l1


def vertex_error(vertices, answers):
    """Returns for each shape the mean distance of its vertices, in the unit of the vertices."""
    difference = ops.subtract(ops.cast(answers, "float32"), ops.cast(vertices, "float32"))
    return ops.mean(ops.sqrt(ops.sum(ops.square(difference), axis=-1)), axis=-1)


def count_parameters(network):
    """Returns how many numbers are learned, with and without scales, offsets and gates of normalisations.

    Tables of the template, its mean shape and moving statistics are weights that are not learned.
    """
    total = sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
    normalization = sum(int(np.prod(variable.shape)) for variable in normalization_variables(network))
    return {"parameters": total, "parameters_without_normalization": total - normalization}


def evaluate_autoencoder(network, halves, lessons, workdir, *, title="", seed=0):
    """Tests `network` on all test shapes, and returns a dictionary of JSON values.

    Prints and writes the report of `write_shape_report`, `reconstructions.png` (best, median and worst test shape),
    `interpolation.png` and `interpolation.gif` (between two test shapes that are far apart), `samples.png` (a Gaussian
    fitted to the latent vectors of the training shapes) and `latent.npz` with its `mean` and `covariance`.

    Args:
        network: a Keras model from vertices to vertices, in millimetres.
        halves: a function from the network to its encoder and its decoder.
        lessons: `ShapeLessons`.
        workdir: where to write.
        title: a line above the pictures.
        seed: seed of the samples.

    Returns:
        The numbers of `ShapeErrors.summary`, and `milliseconds_per_shape` on `device`.
    """
    workdir = Path(workdir)
    answers = answers_to(network, lessons.test_vertices, lessons.batch_size)
    numbers = report(answers, lessons, workdir, title=title)
    encoder, decoder = halves(network)
    show_latent_space(encoder, decoder, lessons, workdir, title=title, seed=seed)
    answer = tf.function(lambda shape: network(shape, training=False))
    return {**numbers, **timed(answer, tf.constant(lessons.test_vertices[:1]))}


def answers_to(network, inputs, batch_size):
    """Returns the outputs of a network for all inputs, as one float32 array."""
    return _answering(network, batch_size)(inputs)


def _answering(network, batch_size):
    """Returns a function from all inputs to all outputs, which is one graph for batches of every size."""
    batches = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    answer = tf.function(lambda batch: network(batch, training=False), input_signature=[batches])

    def answers(inputs):
        parts = [inputs[first : first + batch_size] for first in range(0, len(inputs), batch_size)]
        return np.concatenate([np.asarray(answer(tf.constant(part, tf.float32)), "float32") for part in parts])

    return answers


def report(answers, lessons, workdir, *, title=""):
    """Writes and prints how far off the answers to the test shapes are, with a picture, and returns the numbers."""
    errors = shape_errors(lessons.test_vertices, answers, lessons.deviation, lessons.test_names)
    print(write_shape_report(errors, lessons.faces, workdir))
    order = errors.order()
    if len(order):
        chosen = [order[0], order[len(order) // 2], order[-1]]
        draw_reconstructions(
            lessons.test_vertices[chosen],
            answers[chosen],
            [
                f"{rank}: {errors.names[number]}, {millimetres(errors.shapes_mm[number])}"
                for rank, number in zip(("best", "median", "worst"), chosen)
            ],
            lessons.faces,
            Path(workdir) / "reconstructions.png",
            lessons.view,
            title,
        )
    return {name: round(value, 4) for name, value in errors.summary().items()}


def show_latent_space(encoder, decoder, lessons, workdir, *, title="", seed=0):
    """Draws interpolations between two test shapes and samples, and saves the Gaussian that these are from.

    Args:
        encoder: a Keras model from vertices to latent vectors.
        decoder: a Keras model from these to vertices.
        lessons: `ShapeLessons`.
        workdir: where to write.
        title: a line above the pictures.
        seed: seed of the samples.
    """
    encode, decode = (_answering(half, lessons.batch_size) for half in (encoder, decoder))
    latent = encode(lessons.vertices)
    pair = two_far_apart(lessons.test_vertices)
    first, last = encode(lessons.test_vertices[pair])
    if not np.isfinite(latent).all() or not np.isfinite([first, last]).all():
        print("Latent vectors are not finite, so there are no pictures of interpolations and samples.")
        return
    folder = Path(workdir)
    weights = np.linspace(0, 1, FRAMES, dtype="float32")[:, None]
    between = decode((1 - weights) * first + weights * last)
    shown = np.linspace(0, FRAMES - 1, STEPS_OF_A_STRIP).round().astype(int)
    names = [lessons.test_names[pair[0]], *[""] * (STEPS_OF_A_STRIP - 2), lessons.test_names[pair[1]]]
    labels = [f"{weights[number, 0]:.2f}\n{name}".strip() for number, name in zip(shown, names)]
    frame = {"view": lessons.view, "within": lessons.test_vertices[:LIMITS_OF]}
    draw_strip(between[shown], lessons.faces, folder / "interpolation.png", labels, title=title, **frame)
    write_animation(between, lessons.faces, folder / "interpolation.gif", **frame)
    mean, covariance = latent.mean(0, dtype="float64"), np.atleast_2d(np.cov(latent.astype("float64"), rowvar=False))
    np.savez(folder / "latent.npz", mean=mean, covariance=covariance)
    samples = np.random.default_rng(seed).multivariate_normal(mean, covariance, STEPS_OF_A_STRIP, method="eigh")
    draw_strip(decode(samples), lessons.faces, folder / "samples.png", title=f"{title}, samples", **frame)


def two_far_apart(vertices):
    """Returns the numbers of the shape farthest from the mean shape, and of the one farthest from that."""
    first = int(np.square(vertices - vertices.mean(0)).sum((1, 2)).argmax())
    second = int(np.square(vertices - vertices[first]).sum((1, 2)).argmax())
    return [first, second]


def timed(answer: Callable, shape):
    """Returns the median time that `answer` takes for one shape, and on what, as JSON values."""
    seconds = []
    for _ in range(TIMED_CALLS + 3):
        started = time.perf_counter()
        np.asarray(answer(shape))
        seconds.append(time.perf_counter() - started)
    # The first calls trace and warm up.
    gpus = tf.config.list_physical_devices("GPU")
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    device = name if gpus else f"{name}, {os.cpu_count()} cores"
    return {"milliseconds_per_shape": round(1000 * float(np.median(seconds[3:])), 3), "device": device}


def run_pca(workdir, lessons, components, *, facts, seed=0):
    """Reconstructs the test shapes by linear principal components of the training shapes, and reports as for a network.

    Args:
        workdir: the folder of the run.
        lessons: `ShapeLessons`.
        components: the size of the latent space; at most one less than there are training shapes.
        facts: what the result says beside the scores.
        seed: seed of the randomised decomposition.

    Returns:
        The result, a dictionary of JSON values, as in the `result.json` of the workdir.

    Raises:
        ImportError: if scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise ImportError(
            "Principal components are found with scikit-learn. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error
    count, vertices, _ = lessons.vertices.shape
    components = min(components, count - 1, 3 * vertices)
    started = time.perf_counter()
    pca = PCA(components, svd_solver="randomized", random_state=seed, iterated_power=10)
    pca.fit(lessons.vertices.reshape(count, -1))
    mean, axes = pca.mean_.astype("float32"), pca.components_.astype("float32")

    def answer(shapes):
        flat = np.reshape(shapes, (len(shapes), -1))
        return np.reshape((flat - mean) @ axes.T @ axes + mean, (-1, vertices, 3))

    title = f"linear PCA, {components} components"
    print(title)
    Path(workdir).mkdir(parents=True, exist_ok=True)
    numbers = report(answer(lessons.test_vertices), lessons, workdir, title=title)
    size = axes.size + mean.size
    counted = {"parameters": size, "parameters_without_normalization": size - mean.size, "latent": components}
    clock = {**timed(answer, lessons.test_vertices[:1]), "seconds": round(time.perf_counter() - started, 1)}
    return finish(workdir, {**numbers, **counted, **clock, **facts})
