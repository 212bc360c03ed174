"""Time of SNGAN's generator as an NCP and as a product of polynomials against SNGAN itself (Table 2).

    python benchmarks/gan.py

A training step is one update of the discriminator and one of the generator, with the optimizers; generation is of 64
images at inference. CIFAR-10's sizes, float32, random images. The widths are half of SNGAN's by default, which makes
the share of the injections larger and the benchmark quicker; --width 256 and --discriminator_width 128 are SNGAN's.
"""

import argparse

import tensorflow as tf
from timing import Claim, interleave, machine, print_table

from pinets_tf.models import sngan_discriminator, sngan_generator
from pinets_tf.training import Adversaries, GanRecipe, gan_optimizers

BATCH, LATENT = 64, 128
NETWORKS = {
    "SNGAN": {},
    "NCP": {"injection": True},
    "ProdPoly": {"injection": True, "polynomials": 2},
}
TRAINING = {"NCP": Claim("<=", 1.10), "ProdPoly": Claim("<=", 1.20)}
GENERATION = Claim("<=", 1.10)


def training_step(generator, discriminator, batch):
    """Returns a function without arguments that does a step of both networks, as `fit_gan` does it."""
    recipe = GanRecipe(steps=10**6, batch_size=batch)
    adversaries = Adversaries(generator, discriminator, recipe, *gan_optimizers(recipe))
    real = tf.random.stateless_uniform((batch, 1, 32, 32, 3), (0, 0), -1, 1)
    run = tf.function(adversaries.step)
    return lambda: run(real).numpy()


def generation(generator):
    """Returns a function without arguments that makes 64 images."""
    latents = tf.random.stateless_normal((BATCH, LATENT), (0, 1))
    run = tf.function(lambda z: generator(z, training=False))
    return lambda: run(latents).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timings of each network")
    parser.add_argument("--width", type=int, default=128, help="channels of the generators; SNGAN has 256")
    parser.add_argument("--discriminator_width", type=int, default=64, help="channels of D; SNGAN has 128")
    parser.add_argument("--batch", type=int, default=32, help="images of a training step")
    parser.add_argument("--quick", action="store_true", help="two rounds: a smoke test")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    rows = []
    for what, claims in (("training", TRAINING), ("generation", dict.fromkeys(TRAINING, GENERATION))):
        functions = {}
        for name, options in NETWORKS.items():
            generator = sngan_generator(width=arguments.width, **options)
            if what == "training":
                discriminator = sngan_discriminator(width=arguments.discriminator_width)
                functions[name] = training_step(generator, discriminator, arguments.batch)
            else:
                functions[name] = generation(generator)
        timings = interleave(functions, rounds, slice_seconds=0.5)
        count = arguments.batch if what == "training" else BATCH
        for name, claim in claims.items():
            rates = " / ".join(f"{count / timings.median(network):.0f}" for network in (name, "SNGAN"))
            rows.append((f"{what}, {name} / SNGAN ({rates} images/s)", timings.ratio(name, "SNGAN"), claim))
    print("Seconds of a polynomial generator / seconds of SNGAN")
    widths = f"widths {arguments.width} and {arguments.discriminator_width}"
    print_table(rows, f"{machine()}; float32, 32 pixels, {widths}, {rounds} rounds")


if __name__ == "__main__":
    main()
