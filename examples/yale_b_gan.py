"""Images of faces by a generator without activation functions: Sec. 4.1 of the paper, Fig. 7.

    python examples/yale_b_gan.py --dataset yale_b.npz --workdir runs/yale_b
    python examples/yale_b_gan.py --dataset a_folder_of_faces --workdir runs/faces

The generator is a product of polynomials, of degree 60 before the tanh at its end; the discriminator is a residual
network with spectral normalisation. The paper shows images of Yale B and says nothing of their size, nor of the
numbers of this experiment: 64 pixels are our choice, the rest is that of the experiment on Fashion-MNIST. The set
is to be had from its authors, for research; any folder of faces, or an .npz of images, does. What this package reached,
and how long it took, is in BUILD_NOTES.md. At full size a step takes some seconds on a laptop, so pass `--width`,
`--steps` and `--generator_batch_size` there.
While it trains, `samples/` shows the average generator; at the end `interpolation.png` has the rows of Fig. 7, from a
lit face to one in the dark, and `contributions.png` the images with the products after the first, second ... switched
off. `--eval_only` makes them anew and, with `--inception` or `--efficientnet_lite0`, scores the saved generator. The
same command on the same workdir goes on where it stopped. `--dataset sample` has clothes in the place of faces.
"""

import fashion_mnist_gan
from absl import app, flags

from pinets_tf import script

# The same program. Faces are mirrored, and of another size.
flags.adopt_module_key_flags(fashion_mnist_gan)
flags.FLAGS.set_default("size", 64)
flags.FLAGS.set_default("flip", True)

if __name__ == "__main__":
    script.start()
    app.run(fashion_mnist_gan.main)
