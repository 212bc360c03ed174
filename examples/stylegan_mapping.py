"""StyleGAN with its mapping network, and with a polynomial in its place: Sec. 5.1 of the paper, Fig. 9.

    python examples/stylegan_mapping.py --dataset ffhq_256 --size 256 --inception classify_image_graph_def.pb \
      --score_images 50000 --workdir runs/stylegan
    python examples/stylegan_mapping.py --dataset sample --networks ncp --workdir runs/stylegan_sample

Expected at full size, from the paper, the best of a run: FID 7.15 for StyleGAN and 6.82 with a mapping network that is
an NCP, on FFHQ at 256 pixels (a folder of pictures). What this package reached on smaller images, and how long it took,
is in BUILD_NOTES.md. The networks are trained at their last size from the start; `pinets_tf.models` also has them
growing (`fade`, `carry_weights`).
Each network has a folder in the workdir, and in it one for the seed; at the end the table over all finished seeds is
printed. While a network trains, `samples/` shows its images; at the end `interpolation.png` goes from one image to
another. `--eval_only` draws and scores the saved generators. The same command on the same workdir goes on where it
stopped.
"""

from pathlib import Path

from absl import app, flags

from pinets_tf import training
from pinets_tf.data import pictures
from pinets_tf.data.epochs import full_batches
from pinets_tf.layers.checks import one_of
from pinets_tf.models import stylegan_discriminator, stylegan_generator, stylegan_mapping, stylegan_synthesis

NETWORKS = {"stylegan": {"polynomial": False}, "ncp": {"polynomial": True}}
# Inception Score, which the paper does not give, and FID.
PAPER = {"stylegan": ("-", "7.15"), "ncp": ("-", "6.82")}

# The numbers are those of StyleGAN; order and normalisation of the polynomial are ours, the paper gives none.
FLAGS = flags.FLAGS
training.define_run_flags()
flags.DEFINE_string(
    "dataset", "sample", "A folder of pictures, an .npz, a TensorFlow Datasets name such as cifar10, or sample."
)
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_list("networks", list(NETWORKS), f"Which to train: {', '.join(NETWORKS)}.")
flags.DEFINE_integer("size", 32, "Height and width of the images: 8, 16, 32 ... 1024.")
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
    steps=390_000, batch_size=64, loss="logistic", r1=10.0, learning_rate=1e-3, beta_2=0.99, decay=False, average=0.999
)
training.define_score_flags(images=50_000)


def build(name, channels):
    """Makes StyleGAN with one of the two mapping networks."""
    widths = {"base_channels": FLAGS.base_channels, "max_channels": FLAGS.max_channels}
    mapping = stylegan_mapping(
        FLAGS.latent,
        FLAGS.latent,
        FLAGS.mapping_layers,
        normalize=None if FLAGS.mapping_normalize == "none" else FLAGS.mapping_normalize,
        learning_rate_multiplier=FLAGS.mapping_multiplier,
        **NETWORKS[name],
    )
    synthesis = stylegan_synthesis(FLAGS.size, channels, latent=FLAGS.latent, **widths)
    generator = stylegan_generator(mapping, synthesis, mixing=FLAGS.mixing, truncation=FLAGS.truncation)
    return generator, stylegan_discriminator(FLAGS.size, channels, **widths)


def lessons(data):
    """Says what the networks learn from."""
    batch = FLAGS.batch_size * FLAGS.discriminator_steps
    full_batches(len(data.train), batch, "pictures")  # Says so now if there are too few.
    return training.GanLessons(
        lambda step: pictures.real_batches(data, batch, first_step=step, flip=FLAGS.flip, seed=FLAGS.seed),
        lambda: FLAGS.steps,
    )


def evaluate(generator, extractor, data, workdir):
    """Draws images between latents, and scores the generator if asked."""
    training.draw_generator(generator, workdir)
    options = {"reference": f"{FLAGS.dataset} {data.split}", "averaged": FLAGS.average > 0}
    return training.score_generator(generator, extractor, data.train, workdir, **options)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --steps=1000. Received: {argv[1]!r}.")
    if FLAGS.dataset == pictures.images.SAMPLE:
        training.reduce_for_sample(
            size=16,
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
        data = pictures.load(FLAGS.dataset, FLAGS.size, data_dir=FLAGS.data_dir)
    print(data.description)
    for name in FLAGS.networks:
        workdir = Path(FLAGS.workdir) / name / f"seed-{FLAGS.seed}"
        training.run_gan(
            workdir,
            lambda: lessons(data),
            lambda material, name=name: build(name, data.train.shape[-1]),
            draw=training.write_grid,
            evaluate=lambda generator, material, workdir=workdir: evaluate(generator, extractor, data, workdir),
            # The discriminator compares the images of a call with each other.
            joined=False,
            title=f"{FLAGS.dataset}: {name}",
            remedy="Pass a lower --learning_rate.",
            facts={"network": name, "seed": FLAGS.seed},
        )
    training.print_scores(FLAGS.workdir, PAPER, "Image generation on FFHQ")


if __name__ == "__main__":
    app.run(main)
