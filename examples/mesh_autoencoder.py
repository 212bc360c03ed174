"""Shapes of one topology: Spiral Π-nets beside every operator of Table 5, Sec. 5.3 of the paper.

    python examples/mesh_autoencoder.py --dataset COMA --unit metres --workdir runs/coma
    python examples/mesh_autoencoder.py --dataset sample --workdir runs/mesh
    python examples/mesh_autoencoder.py --dataset COMA --unit metres --workdir runs/coma --predict face.ply

`--dataset` is a folder of mesh files such as CoMA's SUBJECT/SEQUENCE/*.ply, an `.npz` with vertices (n, V, 3) and
faces, a folder with train.npz, val.npz and test.npz, registrations of Dynamic FAUST (`.hdf5`), or `sample`, deformed
spheres. Trains GAT, FeaStNet, MoNet and SpiralGNN with ELU, and ProdPoly simple and full with ELU and without any
activation, and prints Table 5 with ours and the linear PCA of the same latent size beside it: the paper has an error of
0.635 mm for SpiralGNN and 0.474 mm for ProdPoly full without activations. Every test shape counts, also one that
explodes. Another --seed on the same workdir adds to the table. The same command goes on where it stopped; finished
networks are kept. `--eval_only` tests the saved networks, and `--predict FILE` reconstructs a shape. What this package
reached is in BUILD_NOTES.md.
"""

import os

# Before Keras is imported, which else takes the backend of keras.json or of the environment.
os.environ["KERAS_BACKEND"] = "tensorflow"

import statistics
import sys
from pathlib import Path

import numpy as np
from absl import app, flags

from pinets_tf import script, training
from pinets_tf.data import meshes
from pinets_tf.mesh import hierarchy
from pinets_tf.models import mesh_autoencoder

NETWORKS = {
    "gat": {"operator": "gat"},
    "feast": {"operator": "feast"},
    "monet": {"operator": "monet"},
    "spiral": {"operator": "spiral"},
    "simple": {"operator": "simple"},
    "simple_linear": {"operator": "simple", "activation": None},
    "full": {"operator": "full"},
    "full_linear": {"operator": "full", "activation": None},
}
SHORT = ["spiral", "simple_linear", "full_linear"]
POLYNOMIAL = ("simple", "full")
PCA = "pca"
# Table 5: the error in mm, milliseconds of a shape.
PAPER = {
    "gat": ("0.732 mm", "11.04"),
    "feast": ("0.623 mm", "6.64"),
    "monet": ("0.583 mm", "7.59"),
    "spiral": ("0.635 mm", "4.27"),
    "simple": ("0.530 mm", "4.98"),
    "simple_linear": ("0.529 mm", "4.79"),
    "full": ("0.476 mm", "5.30"),
    "full_linear": ("0.474 mm", "5.14"),
    PCA: ("-", "-"),
}

# Widths, latent size and recipe are those of the authors' code; the paper keeps the architecture of its source [1].
FLAGS = flags.FLAGS
training.define_run_flags()
script.define_path("dataset", meshes.SAMPLE, "sample, a folder of meshes, an .npz, or an .hdf5 of Dynamic FAUST.")
flags.DEFINE_alias("data", "dataset")
flags.DEFINE_enum("unit", "millimetres", list(meshes.UNITS), "The unit of the files.")
flags.DEFINE_list("test_sequences", [], "Folders or sequences that are for the test; others are split by position.")
script.define_path("cache", None, "Folder for the levels of the template; beside the dataset if not given.")
flags.DEFINE_list("networks", list(NETWORKS), f"Which to train: {', '.join(NETWORKS)}, or all.")
flags.register_validator(
    "networks", lambda names: {*names} <= {*NETWORKS, "all"}, f"lists some of {', '.join(NETWORKS)}, or all"
)
flags.DEFINE_integer("order", 2, "Order of the polynomials; the paper: 2.", lower_bound=1)
flags.DEFINE_enum(
    "normalize",
    "vertex_batch",
    ["vertex_batch", "instance", "batch", "layer", "tanh", "none"],
    "Normalisation of the products: the authors' code has vertex_batch, footnote 8 of the paper instance.",
)
flags.DEFINE_bool("residual", False, "Whether each order adds the one before.")
flags.DEFINE_bool("gate", True, "Learned scalars on the products that start at zero; the paper mentions none.")
flags.DEFINE_list("widths", ["16", "16", "16", "32"], "Filters of the encoder, one for each step down.")
flags.DEFINE_list("factors", ["4", "4", "4", "4"], "By how much each level is coarser than the one before.")
flags.DEFINE_integer("latent", 16, "Size of the latent vector.", lower_bound=1)
flags.DEFINE_integer("hops", 1, "Rings of a spiral.", lower_bound=1)
flags.DEFINE_integer("dilation", 1, "Which share of a spiral is used.", lower_bound=1)
training.define_adam_flags(epochs=300, batch_size=16, learning_rate=1e-3, weight_decay=5e-5, decay_factor=0.99)
flags.DEFINE_float("azimuth", 25, "Pictures: degrees around the upright axis.")
flags.DEFINE_float("elevation", 10, "Pictures: degrees above the horizon.")
flags.DEFINE_enum("up", "y", ["x", "y", "z"], "Pictures: the upright axis.")


def build(name, shapes, levels):
    """Makes one of the networks, from millimetres to millimetres."""
    options = dict(NETWORKS[name])
    if options["operator"] in POLYNOMIAL:
        normalize = None if FLAGS.normalize == "none" else FLAGS.normalize
        options |= {"order": FLAGS.order, "normalize": normalize, "residual": FLAGS.residual, "gate": FLAGS.gate}
    mean, deviation = shapes.mean_and_deviation()
    return mesh_autoencoder(
        levels,
        widths=training.numbers("widths"),
        latent=FLAGS.latent,
        mean=mean,
        deviation=deviation,
        name=name,
        **options,
    )


def halves(network):
    """Returns the encoder and the decoder of a network."""
    return network.get_layer("encoder"), network.get_layer("decoder")


def load():
    """Loads the shapes of the flags and the levels of their template, and says what they are."""
    shapes = meshes.load(FLAGS.dataset, FLAGS.unit, FLAGS.test_sequences)
    parts = (shapes.train, shapes.validation, shapes.test)
    counts = "{:,} training, {:,} validation and {:,} test shapes".format(*(len(part.names) for part in parts))
    mean, _ = shapes.mean_and_deviation()
    script.introduce(f"{FLAGS.dataset}: {counts}, {len(mean):,} vertices, {len(shapes.faces):,} faces", shapes)
    place = Path(FLAGS.workdir if FLAGS.dataset == meshes.SAMPLE else FLAGS.dataset)
    place = place if place.is_dir() or FLAGS.dataset == meshes.SAMPLE else place.parent
    levels = hierarchy(
        mean,
        shapes.faces,
        training.numbers("factors", float),
        hops=FLAGS.hops,
        dilation=FLAGS.dilation,
        cache=FLAGS.cache or place / "hierarchies",
    )
    sizes = ", ".join("{:,} vertices with spirals of {}".format(*level.spirals.shape) for level in levels.levels)
    print(f"levels: {sizes}", flush=True)
    return shapes, levels


def lessons(shapes, view):
    """Says what the networks learn from and are tested on."""
    return training.ShapeLessons(
        training=lambda epoch: meshes.training_batches(
            shapes, FLAGS.batch_size, epochs=FLAGS.epochs, first_epoch=epoch, seed=FLAGS.seed
        ),
        steps=lambda: meshes.steps_per_epoch(shapes, FLAGS.batch_size),
        batch_size=FLAGS.batch_size,
        validation=meshes.validation_batches(shapes, FLAGS.batch_size),
        test=meshes.test_batches(shapes, FLAGS.batch_size),
        vertices=shapes.train.vertices,
        test_vertices=shapes.test.vertices,
        test_names=shapes.test.names,
        faces=shapes.faces,
        deviation=shapes.mean_and_deviation()[1],
        view=view,
        fingerprint=shapes.fingerprint,
    )


def predict(workdir, file, view):
    """Reconstructs the first shape of a file with a saved network; prints its error, and saves shape and picture."""
    network = training.load_autoencoder(workdir)
    shape, faces = meshes.read_shape(file, network.input_shape[1], FLAGS.unit)
    answer = training.answers_to(network, shape[None], 1)
    error = float(np.linalg.norm(answer[0] - shape, axis=-1).mean())
    place = workdir / "predictions"
    place.mkdir(exist_ok=True)
    latent = training.answers_to(halves(network)[0], shape[None], 1)
    np.savez(place / f"{Path(file).stem}.npz", vertices=answer, faces=faces, latent=latent)
    picture = place / f"{Path(file).stem}.png"
    training.draw_reconstructions(
        shape[None], answer, [training.millimetres(error)], faces, picture, view, Path(file).name
    )
    print(f"{file}, by {workdir}: error {training.millimetres(error)}, {picture}")


def print_table_5(folder):
    """Prints Table 5 of the paper with the mean and the deviation of all finished seeds in the workdir beside it."""
    found = [result for result in training.results(folder) if result.get("network") in PAPER]
    heading = ["network", "error", "median", "not finite", "far off", "ms", "parameters", "without norm.", "seeds"]
    rows = [[*heading, "paper: error", "ms"]]
    for name, paper in PAPER.items():
        runs = [result for result in found if result["network"] == name]
        if runs:
            error, median, clock = (
                # JSON has no word for a number that is none.
                [float("nan") if result[key] is None else result[key] for result in runs]
                for key in ("vertex_error_mm", "median_mm", "milliseconds_per_shape")
            )
            spread = f" ± {statistics.stdev(error):.3f}" if len(runs) > 1 and np.isfinite(error).all() else ""
            shown = (training.millimetres(np.mean(values)) for values in (error, median))
            bad = (sum(result[key] for result in runs) for key in ("not_finite", "far_off"))
            sizes = (f"{runs[0][key]:,}" for key in ("parameters", "parameters_without_normalization"))
            first, *others = [*shown, *bad, f"{np.mean(clock):.2f}", *sizes, len(runs), *paper]
            rows.append([name, first + spread, *others])
    devices = " and ".join(sorted({result["device"] for result in found}))
    print(f"\nTable 5, ours ({Path(FLAGS.dataset).name}; ms: one shape, {devices}) and the paper's (CoMA):")
    training.print_table(rows)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Settings are flags, such as --epochs=60. Received: {argv[1]!r}.")
    training.join_workers()
    if FLAGS.dataset == meshes.SAMPLE:
        training.reduce_for_sample(
            networks=SHORT, epochs=15, learning_rate=3e-3, factors=["4", "4", "2", "2"], xla="off"
        )
    names = list(NETWORKS) if "all" in FLAGS.networks else [name for name in NETWORKS if name in FLAGS.networks]
    workdirs = {name: Path(FLAGS.workdir) / name / f"seed-{FLAGS.seed}" for name in names}
    view = training.View(FLAGS.azimuth, FLAGS.elevation, FLAGS.up)
    with training.exit_on_bad_input():
        for workdir in workdirs.values() if FLAGS.predict else ():
            for file in FLAGS.predict:
                predict(workdir, file, view)
        if FLAGS.predict:
            return
        shapes, levels = load()
    failures = {}
    for name, workdir in workdirs.items():
        try:
            training.run_autoencoder(
                workdir,
                lambda: lessons(shapes, view),
                lambda material, name=name: build(name, shapes, levels),
                halves,
                title=f"{Path(FLAGS.dataset).name}: {name}",
                remedy="Pass --gate, another --normalize or a lower --learning_rate or --order.",
                facts={"network": name, "seed": FLAGS.seed},
            )
        except training.Divergence as error:
            # The others are trained all the same.
            print(error)
            failures[name] = error
    if not training.is_chief():
        return
    with training.exit_on_bad_input():
        training.run_pca(Path(FLAGS.workdir) / PCA, lessons(shapes, view), FLAGS.latent, facts={"network": PCA})
    print_table_5(FLAGS.workdir)
    if failures:
        sys.exit(f"error: not finite, so not in the table: {', '.join(failures)}")


if __name__ == "__main__":
    script.start()
    app.run(main)
