"""Images of CIFAR-10 by SNGAN, by an NCP and by a product of polynomials: Sec. 5.1 of the paper, Table 2.

    python examples/sngan_cifar10.py --dataset cifar10 --inception classify_image_graph_def.pb --score_images 50000 \
      --workdir runs/sngan
    python examples/sngan_cifar10.py --dataset sample --networks prodpoly --workdir runs/sngan_sample

Expected at full size (50,000 steps), from the paper, means of 10 runs: Inception Score 8.06, 8.30 and 8.49, FID 19.06,
17.65 and 16.79 for SNGAN, NCP and ProdPoly. What this package reached, and how long it took, is in BUILD_NOTES.md.
Each network has a folder in the workdir, and in it one for the seed; at the end the table over all finished seeds is
printed. While a network trains, `samples/` shows its images; at the end `interpolation.png` goes from one image to
another, and `contributions.png` has the images with the products after the first, second ... switched off.
`--eval_only` draws and scores the saved generators. The same command on the same workdir goes on where it stopped.
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
from pinets_tf.models import sngan_discriminator, sngan_generator

NETWORKS = {
    "sngan": {},
    "ncp": {"injection": True},
    "prodpoly": {"injection": True, "polynomials": 2},
}
# Inception Score and FID of Table 2.
PAPER = {"sngan": ("8.06 ± 0.10", "19.06 ± 0.50"), "ncp": ("8.30 ± 0.09", "17.65 ± 0.76")}
PAPER["prodpoly"] = ("8.49 ± 0.11", "16.79 ± 0.81")

# The numbers are those of SNGAN, which the paper keeps; the order and number of polynomials in its product are ours.
FLAGS = flags.FLAGS
training.define_run_flags()
script.define_path(
    "dataset", "sample", "sample, a TensorFlow Datasets name such as cifar10, an .npz, or a folder of pictures."
)
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_list("networks", list(NETWORKS), f"Which to train: {', '.join(NETWORKS)}.")
flags.DEFINE_integer("size", 32, "Height and width of the images: 16, 32, 64 ...")
flags.DEFINE_integer("latent", 128, "Numbers in a latent.", lower_bound=1)
flags.DEFINE_integer("width", 256, "Channels of the generator.", lower_bound=1)
flags.DEFINE_integer("discriminator_width", 128, "Channels of the discriminator.", lower_bound=1)
flags.DEFINE_integer("order", 2, "Order of the first polynomial of ProdPoly.", lower_bound=1)
flags.DEFINE_bool("flip", False, "Whether half of the real images are mirrored left to right.")
flags.DEFINE_bool("dequantise", True, "Whether noise below one grey level is added to real images.")
training.define_gan_flags(
    steps=50_000, batch_size=64, generator_batch_size=128, discriminator_steps=5, average=0.0, sample_every=2000
)
training.define_score_flags()


def build(name, data):
    """Makes a generator of Table 2 and the discriminator."""
    shape = FLAGS.size, data.train.shape[-1]
    options = {"latent": FLAGS.latent, "width": FLAGS.width, "order": FLAGS.order, **NETWORKS[name]}
    return sngan_generator(*shape, **options), sngan_discriminator(*shape, width=FLAGS.discriminator_width)


def lessons(data):
    """Says what the networks learn from."""
    options = {"flip": FLAGS.flip, "dequantise": FLAGS.dequantise, "seed": FLAGS.seed}
    batches = pictures.batches_from(data, FLAGS.batch_size * FLAGS.discriminator_steps, **options)
    return training.GanLessons(batches, lambda: FLAGS.steps, fingerprint=data.fingerprint)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --steps=1000. Received: {argv[1]!r}.")
    training.join_workers()
    if FLAGS.dataset == pictures.images.SAMPLE:
        training.reduce_for_sample(
            steps=100,
            width=16,
            discriminator_width=16,
            batch_size=16,
            generator_batch_size=16,
            discriminator_steps=2,
            sample_every=50,
            average=0.95,
        )
    with training.exit_on_bad_input():
        for name in FLAGS.networks:
            one_of("networks", name, tuple(NETWORKS))
        extractor = training.score_extractor()
        data = pictures.load(FLAGS.dataset, FLAGS.size, data_dir=FLAGS.data_dir)
    script.introduce(data.description, data)
    for name in FLAGS.networks:
        workdir = Path(FLAGS.workdir) / name / f"seed-{FLAGS.seed}"
        training.run_gan(
            workdir,
            lambda: lessons(data),
            lambda material, name=name: build(name, data),
            draw=training.write_grid,
            evaluate=lambda generator, material, workdir=workdir: training.report_generator(
                generator, extractor, data, workdir, product_stages(generator)
            ),
            title=f"{FLAGS.dataset}: {name}",
            remedy="Pass a lower --learning_rate.",
            facts={"network": name, "seed": FLAGS.seed},
        )
    if not training.is_chief():
        return
    training.print_scores(FLAGS.workdir, PAPER, "Table 2")


if __name__ == "__main__":
    script.start()
    app.run(main)
