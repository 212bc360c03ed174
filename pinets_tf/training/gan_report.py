"""What is said of a trained generator: its scores and the images that it makes of latents."""

import statistics
from pathlib import Path

import numpy as np
import tensorflow as tf

from pinets_tf.metrics import (
    EfficientNetLite0,
    FeatureStatistics,
    Inception2015,
    image_features,
    reference_statistics,
    score_images,
    to_uint8,
)
from pinets_tf.script import define_path
from pinets_tf.training.fitting import results
from pinets_tf.training.sample_pictures import draw_contributions, draw_interpolation
from pinets_tf.training.table import print_table

_BATCH = 100


def define_score_flags(images=5000):
    """Defines, as flags of the calling script, by what its generator is scored."""
    from absl import flags

    flags.disclaim_key_flags()
    define_path("inception", None, "File of the 2015 Inception graph, for IS and FID.")
    define_path("efficientnet_lite0", None, "File of weights of EfficientNet-Lite0, for IS-EL0 and FID-EL0.")
    flags.DEFINE_integer("score_images", images, "How many images are scored.", lower_bound=1)
    flags.DEFINE_integer(
        "kid_images", 0, "For KID too, features of so many reference images are taken anew; 0: no KID.", lower_bound=0
    )
    define_path(
        "reference", None, "File of reference statistics, written if it does not exist; by default in the workdir."
    )


def score_extractor():
    """Returns the extractor that the flags of `define_score_flags` name, or `None`.

    Raises:
        FileNotFoundError, ValueError: if its file is missing or broken, or two are named.
    """
    from absl.flags import FLAGS

    if FLAGS.inception and FLAGS.efficientnet_lite0:
        raise ValueError(
            "Scores are those of one network. "
            f"Received: --inception={FLAGS.inception} and --efficientnet_lite0={FLAGS.efficientnet_lite0}. Pass one."
        )
    if FLAGS.inception:
        return Inception2015(FLAGS.inception)
    return EfficientNetLite0(FLAGS.efficientnet_lite0) if FLAGS.efficientnet_lite0 else None


def draw_latents(generator, count, seed):
    """Returns latents for pictures and scores, by the flags of `define_gan_flags` and random numbers of their own.

    Args:
        generator: a Keras model of latents.
        count: how many.
        seed: an integer, beside that of the run.
    """
    from absl.flags import FLAGS

    shape = (count, *generator.input_shape[1:])
    rng = np.random.default_rng([FLAGS.seed, seed])
    latents = rng.normal(size=shape) if FLAGS.latents == "normal" else rng.uniform(-1, 1, shape)
    return latents.astype("float32")


def pixels_of(generator, batch_size=_BATCH):
    """Returns a function from latents to uint8 images, which takes `batch_size` latents at a time."""
    latents = tf.TensorSpec((None, *generator.input_shape[1:]), tf.float32)
    generate = tf.function(lambda latents: generator(latents, training=False)).get_concrete_function(latents)

    def pixels(latents):
        parts = range(0, len(latents), batch_size)
        return np.concatenate([to_uint8(generate(tf.constant(latents[part : part + batch_size]))) for part in parts])

    return pixels


def draw_generator(generator, workdir, stages=None, rows=8):
    """Draws `interpolation.png`, from one latent to another in each row, and `contributions.png`, stage by stage.

    Args:
        generator: a Keras model of latents.
        workdir: the folder of the pictures.
        stages: a dictionary from labels to functions without arguments that return models, such as the generator with
            some products switched off (`pinets_tf.analysis.product_stages`); the columns of the second picture, which
            is left out without them.
        rows: rows of both.
    """
    workdir = Path(workdir)
    sources, targets = draw_latents(generator, rows, 1), draw_latents(generator, rows, 2)
    draw_interpolation(pixels_of(generator), sources, targets, workdir / "interpolation.png")
    if stages:
        columns = {label: lambda latents, make=make: pixels_of(make())(latents) for label, make in stages.items()}
        draw_contributions(columns, sources, workdir / "contributions.png")


def report_generator(generator, extractor, data, workdir, stages=None):
    """Draws images between latents, and scores a generator: `draw_generator` and `score_generator`.

    Args:
        generator, extractor, workdir, stages: as for these.
        data: what it was to learn, with uint8 images `train`, and their `split`.

    Returns:
        The scores, as `score_generator`.
    """
    from absl.flags import FLAGS

    draw_generator(generator, workdir, stages)
    return score_generator(generator, extractor, data.train, workdir, reference=f"{FLAGS.dataset} {data.split}")


def score_generator(generator, extractor, real, workdir, *, reference):
    """Scores a generator as the flags of `define_score_flags` say; prints the scores and what makes them comparable.

    Whether its weights are averages is taken from the flags of `define_gan_flags`.

    Args:
        generator: a Keras model of latents.
        extractor: what `score_extractor` returned; nothing is scored without one.
        real: uint8 images that it was to learn.
        workdir: the folder of the run.
        reference: which images `real` are, in words.

    Returns:
        A dictionary of JSON values: the scores under their names, and `"scored"`, the statement beside them. Empty
        without an extractor.
    """
    from absl.flags import FLAGS

    if extractor is None:
        return {}
    file = Path(FLAGS.reference or Path(workdir) / f"reference{extractor.suffix}.npz")
    if not file.exists():
        print(f"statistics of {len(real):,} reference images, once: {file}", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        parts = range(0, len(real), _BATCH)
        reference_statistics((real[part : part + _BATCH] for part in parts), extractor).save(file)
    pixels, latents = pixels_of(generator), draw_latents(generator, FLAGS.score_images, 3)
    few = min(FLAGS.kid_images, len(real))
    for_kernel = np.sort(np.random.default_rng([FLAGS.seed, 4]).choice(len(real), few, replace=False))
    scores = score_images(
        (pixels(latents[part : part + _BATCH]) for part in range(0, len(latents), _BATCH)),
        extractor,
        FeatureStatistics.load(file),
        images=len(latents),
        reference_split=reference,
        averaged_weights=FLAGS.average > 0,
        reference_features=_features(real[for_kernel], extractor) if few else None,
    )
    print(scores)
    return {**{name: round(value, 4) for name, value in scores.values.items()}, "scored": str(scores.statement)}


def _features(images, extractor):
    parts = (images[part : part + _BATCH] for part in range(0, len(images), _BATCH))
    return np.concatenate([features for features, _ in image_features(parts, extractor)])


def print_scores(folder, paper, title):
    """Prints a table of scores, means and deviations over all finished seeds in a workdir, beside the paper's.

    Nothing is printed where no run was scored.

    Args:
        folder: the workdir; results in it name their `network`.
        paper: a dictionary from the name of a network to the Inception Score and the FID of the paper, as texts.
        title: a line above the table.
    """
    found = [result for result in results(folder) if "scored" in result]
    rows = [["network", "parameters", "Inception Score", "FID", "seeds", "paper: IS", "FID"]]
    for name, published in paper.items():
        runs = [result for result in found if result["network"] == name]
        if runs:
            shown = [_mean_and_spread([_score(run, kind) for run in runs]) for kind in ("IS", "FID")]
            rows.append([name, f"{runs[0]['parameters']:,}", *shown, str(len(runs)), *published])
    if found:
        print(f"\n{title}, ours and the paper's (those of the 2015 Inception network):")
        print_table(rows)
        for statement in sorted({result["scored"] for result in found}):
            print(f"  ours: {statement}")


def _score(run, kind):
    """Returns the score of a kind, whichever network it is of."""
    return next(run[key] for key in run if key.split("-")[0] == kind and not key.endswith("deviation"))


def _mean_and_spread(values):
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
