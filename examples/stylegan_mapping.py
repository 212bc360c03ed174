"""StyleGAN with its mapping network, and with a polynomial in its place: Sec. 5.1 of the paper, Fig. 9.

    python examples/stylegan_mapping.py --dataset ffhq_256 --size 256 --inception classify_image_graph_def.pb \
      --score_images 50000 --workdir runs/stylegan
    python examples/stylegan_mapping.py --dataset sample --networks ncp --workdir runs/stylegan_sample

Expected at full size, from the paper, the best of a run: FID 7.15 for StyleGAN and 6.82 with a mapping network that is
an NCP, on FFHQ at 256 pixels (a folder of pictures). What this package reached on smaller images, and how long it took,
is in BUILD_NOTES.md. As in StyleGAN the networks grow: they are trained at 8 pixels, then at 16, and so on, each for
`--size_steps` steps, up to `--size`, which has `--steps`. In the first `--fade_steps` of a size they go over to it from
the one before. With `--grow_from` of the last size they are trained at that alone.
Each network has a folder in the workdir, in it one for the seed, and in that one for each smaller size; at the end the
table over all finished seeds is printed. While a network trains, `samples/` shows its images; at the end
`interpolation.png` goes from one image to another, and `contributions.png` has the images with the products after the
first, second ... switched off, those of the mapping network before those of AdaIN. `--eval_only` draws and scores the
saved generators. The same command on the same workdir goes on where it stopped.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

from pathlib import Path

from absl import app, flags

from pinets_tf import script, training
from pinets_tf.analysis import product_stages
from pinets_tf.data import pictures
from pinets_tf.layers.checks import one_of
from pinets_tf.models import (
    carry_weights,
    stylegan_discriminator,
    stylegan_generator,
    stylegan_mapping,
    stylegan_synthesis,
)

NETWORKS = {"stylegan": {"polynomial": False}, "ncp": {"polynomial": True}}
# Inception Score, which the paper does not give, and FID.
PAPER = {"stylegan": ("-", "7.15"), "ncp": ("-", "6.82")}

# The numbers are those of StyleGAN; order and normalisation of the polynomial are ours, the paper gives none.
FLAGS = flags.FLAGS
training.define_run_flags()
script.define_path(
    "dataset", "sample", "A folder of pictures, an .npz, a TensorFlow Datasets name such as cifar10, or sample."
)
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_list("networks", list(NETWORKS), f"Which to train: {', '.join(NETWORKS)}.")
flags.DEFINE_integer("size", 32, "Height and width of the images: 8, 16, 32 ... 1024.")
flags.DEFINE_integer("grow_from", 8, "Size to start from, doubled until it is --size.")
flags.DEFINE_integer("size_steps", 18_750, "Updates of the generator at each size before the last.", lower_bound=1)
flags.DEFINE_integer("fade_steps", 9_375, "How many of a size, but the first, go over to it.", lower_bound=0)
flags.DEFINE_integer("latent", 512, "Numbers in z and in w.", lower_bound=1)
flags.DEFINE_integer("mapping_layers", 8, "Layers of the mapping network, and order of the polynomial.", lower_bound=1)
flags.DEFINE_string("mapping_normalize", "batch", "Normalisation of the products of the polynomial, or none.")
flags.DEFINE_float("mapping_multiplier", 0.01, "Learning rate of the mapping network, in parts of the other.")
flags.DEFINE_integer("base_channels", 8192, "Twice this by the pixels of a side are the channels ...", lower_bound=1)
flags.DEFINE_integer("max_channels", 512, "... but at most so many.", lower_bound=1)
flags.DEFINE_float("mixing", 0.9, "Probability of mixing two styles.", lower_bound=0, upper_bound=1)
flags.DEFINE_float("truncation", 1.0, "Of w at inference; 1: none.", lower_bound=0, upper_bound=1)
flags.DEFINE_bool("flip", True, "Whether half of the real images are mirrored left to right.")
training.define_gan_flags(
    steps=297_000, batch_size=64, loss="logistic", r1=10.0, learning_rate=1e-3, beta_2=0.99, decay=False, average=0.999
)
training.define_score_flags(images=50_000)


def sizes():
    """Returns the sizes of the images that are trained one after the other."""
    grown = [FLAGS.grow_from]
    while 0 < grown[-1] < FLAGS.size:
        grown.append(2 * grown[-1])
    if grown[-1] != FLAGS.size:
        raise ValueError(
            "Networks grow by doubling their size. "
            f"Received: --grow_from={FLAGS.grow_from} for --size={FLAGS.size}. Pass --grow_from=8."
        )
    if len(grown) > 1 and FLAGS.fade_steps > min(FLAGS.size_steps, FLAGS.steps):
        raise ValueError(
            "A transition is a part of the training at a size. "
            f"Received: --fade_steps={FLAGS.fade_steps} for --size_steps={FLAGS.size_steps} and --steps={FLAGS.steps}. "
            "Pass fewer, or --grow_from of the last size for none."
        )
    return grown


def build(name, size, channels, smaller=None):
    """Makes StyleGAN with one of the two mapping networks, grown from the one of a workdir if `smaller` is one."""
    fade = smaller is not None
    widths = {"base_channels": FLAGS.base_channels, "max_channels": FLAGS.max_channels}
    mapping = stylegan_mapping(
        FLAGS.latent,
        FLAGS.latent,
        FLAGS.mapping_layers,
        normalize=None if FLAGS.mapping_normalize == "none" else FLAGS.mapping_normalize,
        learning_rate_multiplier=FLAGS.mapping_multiplier,
        **NETWORKS[name],
    )
    synthesis = stylegan_synthesis(size, channels, latent=FLAGS.latent, fade=fade, **widths)
    generator = stylegan_generator(mapping, synthesis, mixing=FLAGS.mixing, truncation=FLAGS.truncation)
    networks = generator, stylegan_discriminator(size, channels, fade=fade, **widths)
    for old, new in zip(training.load_adversaries(smaller), networks) if fade else ():
        carry_weights(old, new)
    return networks


def lessons(data, steps):
    """Says what the networks learn from."""
    batch = FLAGS.batch_size * FLAGS.discriminator_steps
    batches = pictures.batches_from(data, batch, flip=FLAGS.flip, seed=FLAGS.seed)
    return training.GanLessons(batches, lambda: steps, fingerprint=data.fingerprint)


def train(name, data, extractor, workdir):
    """Trains one network at one size after the other, and scores it at the last."""

    def train_size(size, steps, folder, smaller=None, evaluate=None):
        training.run_gan(
            folder,
            lambda: lessons(data[size], steps),
            lambda material: build(name, size, data[size].train.shape[-1], smaller),
            draw=training.write_grid,
            evaluate=evaluate,
            # The discriminator compares the images of a call with each other.
            joined=False,
            fade_steps=FLAGS.fade_steps if smaller else 0,
            once=size < FLAGS.size,
            title=f"{FLAGS.dataset}: {name}, {size} pixels",
            remedy="Pass a lower --learning_rate.",
            facts={"network": name, "size": size, "seed": FLAGS.seed},
        )
        return folder

    smaller = None
    for size in () if FLAGS.eval_only else list(data)[:-1]:
        smaller = train_size(size, FLAGS.size_steps, workdir / f"size-{size}", smaller)

    def report(generator, material):
        return training.report_generator(generator, extractor, data[FLAGS.size], workdir, product_stages(generator))

    train_size(FLAGS.size, FLAGS.steps, workdir, smaller, report)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --steps=1000. Received: {argv[1]!r}.")
    training.join_workers()
    if FLAGS.dataset == pictures.images.SAMPLE:
        training.reduce_for_sample(
            size=16,
            size_steps=50,
            fade_steps=25,
            steps=100,
            batch_size=16,
            latent=32,
            base_channels=128,
            max_channels=32,
            average=0.95,
            sample_every=50,
        )
    with training.exit_on_bad_input():
        for name in FLAGS.networks:
            one_of("networks", name, tuple(NETWORKS))
        extractor = training.score_extractor()
        data = {size: pictures.load(FLAGS.dataset, size, data_dir=FLAGS.data_dir) for size in sizes()}
    script.introduce(data[FLAGS.size].description, data[FLAGS.size])
    for name in FLAGS.networks:
        train(name, data, extractor, Path(FLAGS.workdir) / name / f"seed-{FLAGS.seed}")
    if not training.is_chief():
        return
    training.print_scores(FLAGS.workdir, PAPER, f"StyleGAN on {FLAGS.dataset}, the paper's on FFHQ")


if __name__ == "__main__":
    script.start()
    app.run(main)
