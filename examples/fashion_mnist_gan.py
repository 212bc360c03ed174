"""Images of clothes by a generator without activation functions: Sec. 4.1 of the paper, Fig. 6.

    python examples/fashion_mnist_gan.py --dataset fashion_mnist --workdir runs/fashion
    python examples/fashion_mnist_gan.py --dataset sample --workdir runs/fashion_sample

The generator is a product of polynomials, of degree 54 before the tanh at its end; the discriminator is a residual
network with spectral normalisation. The paper shows images and gives no number. What this package reached, and how long
it took, is in BUILD_NOTES.md. At full size a step takes some seconds on a laptop, so pass `--width`, `--steps` and
`--generator_batch_size` there.
While it trains, `samples/` shows the average generator; at the end `interpolation.png` has the rows of Fig. 6, and
`contributions.png` the images with the products after the first, second ... switched off. `--eval_only` makes them anew
and, with `--inception` or `--efficientnet_lite0`, scores the saved generator. The same command on the same workdir goes
on where it stopped.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

from absl import app, flags

from pinets_tf import script, training
from pinets_tf.analysis import product_stages
from pinets_tf.data import pictures
from pinets_tf.models import linear_generator, sngan_discriminator

# The numbers are those of the authors' public experiment; the paper's own text has none.
FLAGS = flags.FLAGS
training.define_run_flags()
script.define_path(
    "dataset", "sample", "sample, a TensorFlow Datasets name such as fashion_mnist, an .npz, or a folder of pictures."
)
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_integer("size", 32, "Height and width of the images: 32, 64 or 128.")
flags.DEFINE_integer("latent", 128, "Numbers in a latent.", lower_bound=1)
flags.DEFINE_integer("order", 3, "Order of the first polynomial.", lower_bound=1)
flags.DEFINE_float("width", 1.0, "What the channels of the generator are multiplied with.")
flags.DEFINE_integer("discriminator_width", 80, "Channels of each block of the discriminator.", lower_bound=1)
flags.DEFINE_integer("channels", 1, "1 makes the images grey, 3 leaves colours.")
flags.DEFINE_bool("flip", False, "Whether half of the real images are mirrored left to right.")
training.define_gan_flags(steps=50_000, batch_size=64, generator_batch_size=512, latents="uniform", sample_every=2000)
training.define_score_flags()


def build(data):
    """Makes the two networks of the flags."""
    channels = data.train.shape[-1]
    generator = linear_generator(FLAGS.size, channels, latent=FLAGS.latent, order=FLAGS.order, width=FLAGS.width)
    return generator, sngan_discriminator(FLAGS.size, channels, width=FLAGS.discriminator_width)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --steps=1000. Received: {argv[1]!r}.")
    training.join_workers()
    if FLAGS.dataset == pictures.images.SAMPLE:
        training.reduce_for_sample(
            size=32,
            steps=300,
            width=0.2,
            discriminator_width=16,
            batch_size=32,
            generator_batch_size=32,
            sample_every=100,
            average=0.98,
        )
    with training.exit_on_bad_input():
        extractor = training.score_extractor()
        data = pictures.load(FLAGS.dataset, FLAGS.size, FLAGS.channels, data_dir=FLAGS.data_dir)
    script.introduce(data.description, data)

    def lessons():
        batch = FLAGS.batch_size * FLAGS.discriminator_steps
        batches = pictures.batches_from(data, batch, flip=FLAGS.flip, seed=FLAGS.seed)
        return training.GanLessons(batches, lambda: FLAGS.steps, fingerprint=data.fingerprint)

    training.run_gan(
        FLAGS.workdir,
        lessons,
        lambda material: build(data),
        draw=training.write_grid,
        evaluate=lambda generator, material: training.report_generator(
            generator, extractor, data, FLAGS.workdir, product_stages(generator)
        ),
        title=f"{FLAGS.dataset}: generator without activations",
        remedy="Pass a lower --learning_rate or --order.",
    )


if __name__ == "__main__":
    script.start()
    app.run(main)
