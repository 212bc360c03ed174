"""The mesh trainer from files of shapes to Table 5."""

import json

import keras
import numpy as np
import pytest

import pinets_tf  # noqa: F401  registers the layers of the saved model
from pinets_tf.mesh import deformed_spheres
from tests.commands import call, run

TINY = ["--factors=4,2", "--widths=4,4", "--latent=3", "--batch_size=8", "--epochs=2", "--xla=off"]
SCRIPT = "examples/mesh_autoencoder.py"
NETWORKS = ["gat", "feast", "monet", "spiral", "simple", "simple_linear", "full", "full_linear"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The dataset and folder of a run of two networks, and what it printed."""
    folder = tmp_path_factory.mktemp("mesh")
    shapes = deformed_spheres(40, subdivisions=1)
    np.savez(folder / "spheres.npz", vertices=shapes.vertices / 1000, faces=shapes.faces)
    options = [f"--dataset={folder / 'spheres.npz'}", "--unit=metres", f"--workdir={folder / 'run'}", *TINY]
    return folder, options, run(SCRIPT, *options, "--networks=spiral,full_linear").stdout


def results(printed):
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def test_trains_and_prints_table_5(trained):
    folder, _, printed = trained
    assert "32 training, 4 validation and 4 test shapes, 42 vertices, 80 faces" in printed and "shapes/s" in printed
    found = results(printed)
    assert [result["network"] for result in found] == ["spiral", "full_linear", "pca"]
    table = printed[printed.index("Table 5") :].splitlines()
    assert [line.split()[0] for line in table[2:]] == ["spiral", "full_linear", "pca"]
    assert table[2].endswith("0.635 mm  4.27") and table[3].endswith("0.474 mm  5.14")
    assert table[4].split()[1] == f"{found[2]['vertex_error_mm']:.3f}" and "  3.00" not in table[4]
    # 3 components, and the linear map into 3 numbers of the network.
    assert found[2]["parameters"] == 4 * 126 and found[2]["latent"] == 3
    assert found[1]["parameters"] > found[1]["parameters_without_normalization"]
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in folder.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    for name in ("spiral", "full_linear"):
        files = {path.name for path in (folder / "run" / name / "seed-0").iterdir()}
        pictures = {"curves.png", "reconstructions.png", "interpolation.png", "interpolation.gif", "samples.png"}
        assert pictures | {"model.keras", "report.txt", "errors.npz", "latent.npz", "history.csv"} <= files
    assert len(list((folder / "hierarchies").iterdir())) == 1


@pytest.mark.long
def test_another_seed_joins_the_table_and_finished_networks_are_kept(trained):
    folder, options, printed = trained
    model = folder / "run" / "spiral" / "seed-0" / "model.keras"
    written = model.stat().st_mtime_ns
    again = call(SCRIPT, *options, "--networks=spiral").stdout
    assert "spheres.npz: spiral: finished" in again and model.stat().st_mtime_ns == written
    assert results(again)[0] == results(printed)[0]
    second = call(SCRIPT, *options, "--networks=spiral", "--seed=1").stdout
    errors = [found[0]["vertex_error_mm"] for found in map(results, (printed, second))]
    row = second[second.index("Table 5") :].splitlines()[2].split()
    assert row[:5] == ["spiral", f"{np.mean(errors):.3f}", "mm", "±", f"{np.std(errors, ddof=1):.3f}"]
    other = call(SCRIPT, *options, "--networks=spiral", "--latent=4", check=False)
    assert other.returncode == 1 and "latent: 3 there, 4 now" in other.stderr and "Traceback" not in other.stderr


def test_tested_again_and_asked(trained):
    folder, options, printed = trained
    tested = results(call(SCRIPT, *options, "--networks=full_linear", "--eval_only").stdout)[0]
    first = results(printed)[1]
    for name in ("vertex_error_mm", "median_mm", "parameters", "test_shapes"):
        assert tested[name] == first[name]
    shapes = deformed_spheres(3, subdivisions=1)
    np.savez(folder / "one.npz", vertices=shapes.vertices[2:] / 1000, faces=shapes.faces)
    asked = call(SCRIPT, *options, "--networks=full_linear", f"--predict={folder / 'one.npz'}").stdout
    place = folder / "run" / "full_linear" / "seed-0"
    network = keras.models.load_model(place / "model.keras")
    answer = keras.ops.convert_to_numpy(network(shapes.vertices[2:], training=False))
    with np.load(place / "predictions" / "one.npz") as saved:
        np.testing.assert_allclose(saved["vertices"], answer, rtol=1e-4, atol=1e-3)
        assert saved["latent"].shape == (1, 3)
    error = np.linalg.norm(answer - shapes.vertices[2:], axis=-1).mean()
    _, after = asked.split(f"one.npz, by {place}: error ")
    assert float(after.split()[0]) == pytest.approx(error, abs=2e-3) and (place / "predictions" / "one.png").exists()
    wrong = call(SCRIPT, *options, "--networks=full_linear", f"--predict={folder / 'none.ply'}", check=False)
    assert wrong.returncode == 1 and "error: " in wrong.stderr and "Traceback" not in wrong.stderr


def test_a_network_that_diverges_does_not_stop_the_others(trained, tmp_path):
    _, options, _ = trained
    options = [option for option in options if "--workdir" not in option]
    flags = ["--networks=full_linear,simple_linear", "--normalize=none", "--nogate", "--order=6", "--learning_rate=1e6"]
    done = call(SCRIPT, *options, f"--workdir={tmp_path / 'run'}", *flags, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout.count("A training ends when its loss or its gradient is not finite") == 2
    assert "error: not finite, so not in the table: simple_linear, full_linear" in done.stderr
    assert done.stdout[done.stdout.index("Table 5") :].splitlines()[2].split()[0] == "pca"


@pytest.mark.long
def test_every_network_of_the_table(trained, tmp_path):
    _, options, _ = trained
    options = [option for option in options if "--workdir" not in option and "--epochs" not in option]
    done = call(SCRIPT, *options, f"--workdir={tmp_path / 'run'}", "--networks=all", "--epochs=1")
    assert [result["network"] for result in results(done.stdout)] == [*NETWORKS, "pca"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dataset=sample", "--batch_size=5000"], "batch_size=5000 for 192 training shapes"),
        (["--networks=spiral,vgg"], "lists some of gat, feast"),
        (["--predict=a.ply"], "A trained network is a folder with model.keras"),
        (["--dataset=sample", "--factors=4;4"], "--factors lists numbers with commas"),
        (["--dataset=sample", "--widths=4"], "has a width for every step down"),
    ],
)
def test_bad_input(options, words, tmp_path):
    done = call(SCRIPT, f"--workdir={tmp_path / 'run'}", *TINY, *options, check=False)
    assert done.returncode != 0 and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "spiral").exists()
