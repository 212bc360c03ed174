"""The ImageNet trainer from JPEGs to Table 4."""

import json

import pytest

from tests.commands import call, run

SCRIPT = "examples/imagenet.py"
TINY = ["--width=2", "--size=32", "--resize=36", "--epochs=1", "--batch_size=160"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two networks on the sample, one of its files broken, and what it printed."""
    folder = tmp_path_factory.mktemp("photographs") / "run"
    options = ["--data=sample", f"--workdir={folder}", "--networks=resnet18,pinet18_1x1"]
    return folder, call(SCRIPT, *options, *TINY).stdout


def test_trains_and_prints_table_4(trained):
    folder, printed = trained
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [result["network"] for result in results] == ["resnet18", "pinet18_1x1"]
    assert "480 training and 120 validation images, 8 classes" in printed and "--precision=float32" in printed
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in folder.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    table = printed[printed.index("Table 4") :].splitlines()
    assert [line.split()[0] for line in table[2:4]] == ["resnet18", "pinet18_1x1"]
    for row, result in zip(table[2:4], results):
        cells = row.split()
        assert cells[1] == f"{100 * (1 - result['accuracy']):.2f}"
        assert cells[4] == f"{2 * result['parameters'] / 1e6:.2f}"
    assert table[2].split()[5:] == ["30.1", "10.57"]
    assert (folder / "errors.png").read_bytes().startswith(b"\x89PNG")


def test_tested_and_asked(trained):
    folder, printed = trained
    first = next(json.loads(line) for line in printed.splitlines() if line.startswith("{"))
    options = [f"--workdir={folder}", "--networks=resnet18", "--size=32", "--resize=36"]
    tested = call(SCRIPT, "--data=sample", *options, "--eval_only").stdout
    result = next(json.loads(line) for line in tested.splitlines() if line.startswith("{"))
    assert (result["accuracy"], result["top_5"]) == (first["accuracy"], first["top_5"])
    picture = next((folder / "sample" / "val" / "ring").iterdir())
    answers = run(SCRIPT, *options, f"--predict={picture}").stdout.splitlines()
    assert answers[0].startswith(f"{picture}, by ") and len(answers) == 6
    refused = call(SCRIPT, *options, f"--predict={folder / 'errors.csv'}", check=False)
    assert refused.returncode == 1 and "error: " in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.long
def test_broken_files_are_named(trained, tmp_path):
    folder, _ = trained
    for split in ("train", "val"):
        for name in ("disc", "ring"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for file in (folder / "sample" / split / name).iterdir():
                (tmp_path / "set" / split / name / file.name).write_bytes(file.read_bytes())
    broken = min((tmp_path / "set" / "train" / "disc").iterdir())
    broken.write_bytes(broken.read_bytes()[:500])
    options = [f"--dataset={tmp_path / 'set'}", f"--workdir={tmp_path / 'run'}", "--networks=resnet18", *TINY]
    done = call(SCRIPT, *options, "--batch_size=40", "--precision=float32", "--xla=off").stdout
    assert "skipped: 1 files that could not be decoded" in done and broken.name in done
    # Two classes have no five best.
    assert "top-5" not in done[: done.index("Table 4")]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dataset=./none"], "./none"),
        (["--dataset=sample", "--batch_size=5000"], "batch_size=5000 for 480 training images"),
        (
            ["--dataset=sample", "--networks=resnet18", "--resize=32", "--size=64"],
            "A crop must lie in the resized image",
        ),
        (["--networks=vgg"], "lists some of resnet50, prodpoly50"),
    ],
)
def test_bad_input(options, words, tmp_path):
    done = call(SCRIPT, f"--workdir={tmp_path / 'run'}", *TINY[:2], *options, check=False)
    assert done.returncode != 0 and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "resnet50").exists()
