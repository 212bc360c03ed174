"""Image classification without activation functions: Sec. 4.2 of the paper, Fig. 8.

    python examples/cifar_linear.py --dataset cifar10 --order 2 --workdir runs/order2
    python examples/cifar_linear.py --dataset cifar10 --order 1 --workdir runs/linear
    python examples/cifar_linear.py --dataset cifar10 --order 1 --activation relu --workdir runs/relu
    python examples/cifar_linear.py --dataset cifar10 --order 2 --activation relu --stage_blocks 2,2,1,1 \
      --product_convolution --factor_convolution every --workdir runs/prodpoly

Expected at full size (width 64, 120 epochs), from the paper and its poster: 0.391 for order 1, 0.945 for ReLU, 0.907
for a polynomial network without activations; from the journal version about 0.94 for the last one, Prodpoly-ResNet with
half of the parameters. `--gate --product_convolution --initializer r_polynets --label_smoothing 0.1` are the
improvements of R-PolyNets (Chrysos et al., CVPR 2023). `--eval_only` tests the saved network, `--predict cat.png`
prints its answers. What this package reached, and how long it took, is in BUILD_NOTES.md.
The same command on the same workdir goes on where it stopped. `--dataset sample` needs no download.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
from absl import app, flags

from pinets_tf import script, training
from pinets_tf.data import images
from pinets_tf.models import resnet

R_POLYNETS = keras.initializers.VarianceScaling(16.0, "fan_in", "untruncated_normal")

# The recipe is that of the journal version and of the first author's later code; the paper itself gives none.
FLAGS = flags.FLAGS
training.define_run_flags()
script.define_path(
    "dataset", "sample", "sample, a TensorFlow Datasets name such as cifar10, an .npz, or a folder of images."
)
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_integer("order", 2, "Order of each residual block; the paper: 2 to 5 (Fig. 8), 1 is a plain residual net.")
flags.DEFINE_enum("activation", "none", ["none", "relu"], "Activation function of the residual network.")
flags.DEFINE_list("stage_blocks", ["2", "2", "2", "2"], "Blocks of each stage; the paper: 1,1,1,1 and 2,2,2,2.")
flags.DEFINE_integer("width", 64, "Channels of the first stage; 64 in ResNet18.", lower_bound=1)
flags.DEFINE_string("normalize", "batch", "Normalisation of the products: batch, layer, instance, tanh or none.")
flags.DEFINE_bool("gate", True, "Learned scalars on the products that start at zero; the paper mentions none.")
flags.DEFINE_bool("product_convolution", False, "1x1 convolution on each product, as in R-PolyNets (2023).")
flags.DEFINE_enum("factor_convolution", "none", ["none", "identity", "every"], "1x1 convolution on the shortcut's way.")
flags.DEFINE_enum("initializer", "he", ["he", "r_polynets"], "Initial kernels: 2 / fan_out, or 16 / fan_in (2023).")
training.define_recipe_flags(
    epochs=120, batch_size=128, learning_rate=0.1, weight_decay=5e-4, milestones=(40, 60, 80, 100)
)
flags.DEFINE_integer(
    "crop_padding", 4, "Random crop: pixels by which a training image is shifted at most.", lower_bound=0
)
flags.DEFINE_bool("flip", True, "Whether half of the training images are mirrored left to right.")


def build(data):
    """Makes the network of the flags, which takes raw pixels."""
    mean, variance = data.mean_and_variance()
    return resnet(
        data.x_train.shape[1:],
        data.classes,
        stage_blocks=training.numbers("stage_blocks"),
        order=FLAGS.order,
        activation=None if FLAGS.activation == "none" else FLAGS.activation,
        width=FLAGS.width,
        normalize=None if FLAGS.normalize == "none" else FLAGS.normalize,
        gate=FLAGS.gate,
        product_convolution=FLAGS.product_convolution,
        factor_convolution=None if FLAGS.factor_convolution == "none" else FLAGS.factor_convolution,
        kernel_initializer=R_POLYNETS if FLAGS.initializer == "r_polynets" else None,
        preprocessing=keras.layers.Normalization(mean=mean, variance=variance),
    )


def lessons(data):
    """Says what the network learns from and is tested on."""
    options = {"crop_padding": FLAGS.crop_padding, "flip": FLAGS.flip, "seed": FLAGS.seed}
    test = images.test_batches(data, FLAGS.batch_size)
    return training.Lessons(
        lambda epoch: images.training_batches(
            data, FLAGS.batch_size, epochs=FLAGS.epochs, first_epoch=epoch, **options
        ),
        lambda: images.steps_per_epoch(data, FLAGS.batch_size),
        FLAGS.batch_size,
        validation=test,
        test=test,
        class_names=data.class_names,
        fingerprint=data.fingerprint,
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --order=2. Received: {argv[1]!r}.")
    training.join_workers()
    with training.exit_on_bad_input():
        if FLAGS.predict:
            training.print_answers(FLAGS.workdir, FLAGS.predict, images.read_image)
            return
        data = images.load(FLAGS.dataset, FLAGS.data_dir)
    if FLAGS.dataset == images.SAMPLE:
        training.reduce_for_sample(width=8, epochs=8, batch_size=50, stage_blocks=["1", "1", "1"])
    sizes = f"{len(data.x_train):,} training and {len(data.x_test):,} test images"
    script.introduce(f"{FLAGS.dataset}: {sizes}, {data.classes} classes", data)
    training.run_classifier(
        FLAGS.workdir,
        lambda: lessons(data),
        lambda material: build(data),
        title=f"{FLAGS.dataset}: order {FLAGS.order}, activation {FLAGS.activation}",
        remedy="Pass --gate, --normalize=batch, a lower --learning_rate or --order.",
        facts={"order": FLAGS.order, "activation": FLAGS.activation},
    )


if __name__ == "__main__":
    script.start()
    app.run(main)
