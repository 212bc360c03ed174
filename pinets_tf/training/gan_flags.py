"""Flags of a training of two networks against each other, and what follows from them: recipe and optimizers."""

import dataclasses

import keras

from pinets_tf.training.gan_losses import LOSSES
from pinets_tf.training.gan_step import LATENTS, GanRecipe


def define_gan_flags(
    *,
    steps,
    batch_size=64,
    generator_batch_size=None,
    discriminator_steps=1,
    loss="hinge",
    learning_rate=2e-4,
    beta_1=0.0,
    beta_2=0.9,
    decay=True,
    r1=0.0,
    r1_every=1,
    latents="normal",
    average=0.999,
    average_warm_up=False,
    settle=0,
    log_every=100,
    sample_every=1000,
    checkpoint_every=1000,
    steps_per_loop=1,
):
    """Defines, as flags of the calling script, a recipe of Adam for both networks with these numbers."""
    from absl import flags

    flags.disclaim_key_flags()
    flags.DEFINE_integer("steps", steps, "Updates of the generator.", lower_bound=1)
    flags.DEFINE_integer(
        "batch_size", batch_size, "Real images in an update of the discriminator, over all replicas.", lower_bound=1
    )
    flags.DEFINE_integer(
        "generator_batch_size",
        generator_batch_size or batch_size,
        "Fake images in an update of the generator, over all replicas.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "discriminator_steps", discriminator_steps, "Updates of the discriminator in each step.", lower_bound=1
    )
    flags.DEFINE_enum("loss", loss, list(LOSSES), "Loss of both networks; logistic does not saturate.")
    flags.DEFINE_float("learning_rate", learning_rate, "Learning rate of both networks at the start.", lower_bound=0)
    flags.DEFINE_float("beta_1", beta_1, "First decay of Adam.", lower_bound=0, upper_bound=1)
    flags.DEFINE_float("beta_2", beta_2, "Second decay of Adam.", lower_bound=0, upper_bound=1)
    flags.DEFINE_bool("decay", decay, "Whether the learning rate falls linearly to zero from the first step on.")
    flags.DEFINE_float("r1", r1, "Weight of the R1 penalty on the discriminator; 0: none.", lower_bound=0)
    flags.DEFINE_integer(
        "r1_every", r1_every, "The penalty is computed every so many updates, with as much more weight.", lower_bound=1
    )
    flags.DEFINE_enum("latents", latents, LATENTS, "Latents: N(0, 1) or U(-1, 1).")
    flags.DEFINE_float("average", average, "Decay of the average of the generator.", lower_bound=0, upper_bound=1)
    flags.DEFINE_bool("average_warm_up", average_warm_up, "Whether that decay is at most (1 + step) / (10 + step).")
    flags.DEFINE_integer(
        "settle", settle, "Batches on which statistics are settled before samples and at the end.", lower_bound=0
    )
    flags.DEFINE_integer("log_every", log_every, "Steps between rows of the history.", lower_bound=1)
    flags.DEFINE_integer("sample_every", sample_every, "Steps between pictures of samples.", lower_bound=1)
    flags.DEFINE_integer("checkpoint_every", checkpoint_every, "Steps between checkpoints.", lower_bound=1)
    flags.DEFINE_integer("steps_per_loop", steps_per_loop, "Most steps in one call of TensorFlow.", lower_bound=1)


def gan_recipe(**options):
    """Returns the `GanRecipe` that the flags of `define_gan_flags` describe, with `options` in place of theirs."""
    from absl.flags import FLAGS

    names = [field.name for field in dataclasses.fields(GanRecipe) if field.name in FLAGS]
    return GanRecipe(**{**{name: FLAGS[name].value for name in names}, **options})


def gan_optimizers(recipe, *, learning_rate=2e-4, beta_1=0.0, beta_2=0.9, epsilon=1e-8, decay=True):
    """Returns Adam for the generator and Adam for the discriminator.

    Args:
        recipe: a `GanRecipe`. Each schedule counts the updates of its own network.
        learning_rate: that of the first step.
        beta_1, beta_2, epsilon: those of Adam.
        decay: whether the learning rate falls linearly, from the first step on, to zero at the end of the training.
    """

    def adam(updates):
        # A schedule in any case: a plain rate would be a variable, and come out of a checkpoint as it was.
        end = 0.0 if decay else learning_rate
        rate = keras.optimizers.schedules.PolynomialDecay(learning_rate, updates, end)
        return keras.optimizers.Adam(rate, beta_1, beta_2, epsilon)

    return adam(recipe.steps), adam(recipe.steps * recipe.discriminator_steps)
