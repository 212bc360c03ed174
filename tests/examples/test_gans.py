"""The trainers of generators, from pictures to scores, exports and interpolations."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import pinets_tf  # noqa: F401  registers the layers of the saved models
from pinets_tf.training import print_scores
from tests.commands import call, run

TINY = ["--data=sample", "--steps=2", "--batch_size=4", "--generator_batch_size=4", "--xla=off"]
LINEAR = [*TINY, "--width=0.03", "--discriminator_width=2", "--log_every=1"]


def result_of(printed):
    return json.loads(next(line for line in printed.splitlines() if line.startswith("{")))


def size_of(picture):
    return tf.io.decode_png(tf.io.read_file(str(picture))).shape


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """The folder of a run on the sample, and what it printed."""
    folder = tmp_path_factory.mktemp("fashion") / "run"
    return folder, run("examples/fashion_mnist_gan.py", f"--workdir={folder}", *LINEAR).stdout


def test_fashion_mnist(fashion):
    folder, printed = fashion
    assert "5,500 grey pictures of 32x32 from sample (train): padded with 2 black pixels" in printed
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in folder.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    result = result_of(printed)
    assert result["steps"] == 2 and result["images_per_second"] > 0
    assert [line.split(",")[0] for line in (folder / "history.csv").read_text().splitlines()] == ["step", "1", "2"]
    assert size_of(folder / "samples" / "step_0000002.png") == (8 * 33 - 1, 8 * 33 - 1, 1)
    # Rows of Fig. 6, of nine images each.
    assert size_of(folder / "interpolation.png") == (8 * 33 - 1, 9 * 33 - 1, 1)
    # Columns with none to all of 2 + 8 + 1 products, under a line of labels.
    height, width, _ = size_of(folder / "contributions.png")
    assert width == 12 * (2 * 32 + 1) - 1 and height > 8 * (2 * 32 + 1)
    generator = keras.models.load_model(folder / "generator.keras")
    assert generator.count_params() == result["parameters"]


@pytest.mark.long
def test_fashion_mnist_again(fashion):
    folder, printed = fashion
    again = call("examples/fashion_mnist_gan.py", f"--workdir={folder}", *LINEAR).stdout
    assert "finished: 2 steps" in again
    assert result_of(again)["parameters"] == result_of(printed)["parameters"]
    for file in ("interpolation.png", "result.json"):
        (folder / file).unlink()
    drawn = call("examples/fashion_mnist_gan.py", f"--workdir={folder}", *LINEAR, "--eval_only").stdout
    assert result_of(drawn)["parameters"] == result_of(printed)["parameters"]
    assert (folder / "interpolation.png").exists()


@pytest.mark.long
def test_yale_b_from_an_npz(tmp_path):
    faces = np.random.default_rng(0).integers(0, 256, (12, 40, 40)).astype("uint8")
    np.savez(tmp_path / "faces.npz", x=faces)
    options = [f"--workdir={tmp_path / 'run'}", *LINEAR, f"--data={tmp_path / 'faces.npz'}", "--size=64"]
    printed = run("examples/yale_b_gan.py", *options).stdout
    assert "12 grey pictures of 64x64" in printed and result_of(printed)["steps"] == 2
    assert size_of(tmp_path / "run" / "samples" / "step_0000002.png") == (8 * 65 - 1, 8 * 65 - 1, 1)


@pytest.mark.long
def test_sngan_trains_networks_of_table_2(tmp_path):
    options = [f"--workdir={tmp_path}", *TINY, "--width=4", "--discriminator_width=2", "--discriminator_steps=2"]
    options.append("--networks=sngan,prodpoly")
    printed = call("examples/sngan_cifar10.py", *options).stdout
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [result["network"] for result in results] == ["sngan", "prodpoly"]
    # Without a network for the scores there is no table of them.
    assert "Table 2" not in printed and not any("scored" in result for result in results)
    assert (tmp_path / "prodpoly" / "seed-0" / "interpolation.png").exists()
    # SNGAN has no products to switch off.
    drawn = sorted(path.parent.parent.name for path in tmp_path.rglob("contributions.png"))
    assert drawn == ["prodpoly"]
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in tmp_path.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    other = call("examples/sngan_cifar10.py", *options, "--networks=prodpoly", "--width=6", check=False)
    assert other.returncode == 1 and "belongs to one configuration" in other.stderr and "Traceback" not in other.stderr


@pytest.mark.long
def test_stylegan_with_an_ncp(tmp_path):
    tiny = [*TINY, "--latent=8", "--base_channels=16", "--max_channels=4", "--size=8", "--grow_from=8"]
    printed = call("examples/stylegan_mapping.py", f"--workdir={tmp_path}", *tiny, "--networks=ncp").stdout
    assert result_of(printed)["network"] == "ncp" and result_of(printed)["steps"] == 2
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in tmp_path.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    assert keras.models.load_model(tmp_path / "ncp" / "seed-0" / "generator.keras").output_shape == (None, 8, 8, 1)


@pytest.mark.long
def test_stylegan_with_an_ncp_grows(tmp_path):
    tiny = [*TINY, "--latent=8", "--base_channels=32", "--max_channels=4", "--size=16", "--networks=ncp"]
    tiny += ["--size_steps=2", "--fade_steps=2", "--mapping_layers=2"]
    printed = call("examples/stylegan_mapping.py", f"--workdir={tmp_path}", *tiny).stdout
    assert "sample: ncp, 8 pixels: " in printed and "sample: ncp, 16 pixels: " in printed
    assert result_of(printed)["network"] == "ncp"
    small, large = (tmp_path / "ncp" / "seed-0" / size / "generator.keras" for size in ("size-8", "."))
    small, large = keras.models.load_model(small), keras.models.load_model(large)
    assert (small.output_shape, large.output_shape) == ((None, 8, 8, 1), (None, 16, 16, 1))
    assert float(large.get_layer("synthesis").get_layer("fade").alpha) == 1


@pytest.mark.parametrize(
    "options, words",
    [
        (["--grow_from=12", "--size=32"], "--grow_from=12 for --size=32. Pass --grow_from=8"),
        (["--fade_steps=3"], "--fade_steps=3 for --size_steps=50 and --steps=2. Pass fewer"),
    ],
)
def test_stylegan_cannot_grow_so(tmp_path, options, words):
    done = call("examples/stylegan_mapping.py", f"--workdir={tmp_path / 'run'}", *TINY, *options, check=False)
    assert done.returncode == 1 and "error: " in done.stderr and words in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


def test_the_table_of_scores_is_over_seeds(tmp_path, capsys):
    for seed, score in enumerate((10.0, 12.0)):
        (tmp_path / f"seed-{seed}").mkdir()
        result = {"network": "ncp", "parameters": 1000, "FID-EL0": score, "IS-EL0": score / 4, "IS-EL0 deviation": 9.0}
        (tmp_path / f"seed-{seed}" / "result.json").write_text(json.dumps({**result, "scored": "network: X"}))
    print_scores(tmp_path, {"sngan": ("8.06", "19.06"), "ncp": ("8.30", "17.65")}, "Table 2")
    table = capsys.readouterr().out.splitlines()
    assert table[1].startswith("Table 2, ours and the paper's") and len(table) == 5
    assert table[3].split() == ["ncp", "1,000", "2.75", "±", "0.35", "11.00", "±", "1.41", "2", "8.30", "17.65"]
    assert table[4] == "  ours: network: X"


@pytest.mark.parametrize(
    "options, words",
    [
        (["--networks=gan"], "`networks` must be one of 'sngan', 'ncp', 'prodpoly'. Received: networks='gan'"),
        (["--efficientnet_lite0=none.npz"], "none.npz"),
        (["--inception=a.pb", "--efficientnet_lite0=b.npz"], "Scores are those of one network"),
        (["--data=none.npz"], "none.npz"),
        (["--batch_size=4000"], "Received: batch_size=8000 for 5500 training pictures"),
    ],
)
def test_errors_before_anything_is_written(tmp_path, options, words):
    workdir = tmp_path / "run"
    done = call("examples/sngan_cifar10.py", f"--workdir={workdir}", *TINY, "--width=4", *options, check=False)
    assert done.returncode == 1 and "error: " in done.stderr and words in done.stderr
    assert "Traceback" not in done.stderr and not workdir.exists()
