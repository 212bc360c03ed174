"""The speech trainer from WAV files to a served label."""

import json
import wave

import keras
import numpy as np
import pytest
import tensorflow as tf

import pinets_tf  # noqa: F401  registers the layers of the saved model
from tests.commands import call, run

TINY = ["--width=2", "--batch_size=8", "--epochs=1", "--xla=off"]
SCRIPT = "examples/speech_commands.py"


@pytest.fixture(
    scope="module", params=[["prodpoly"], pytest.param(["resnet34", "prodpoly"], marks=pytest.mark.long)], ids=len
)
def trained(request, tmp_path_factory):
    """The folder of a run of some networks on the sample, their names, and what it printed."""
    folder, networks = tmp_path_factory.mktemp("speech") / "run", f"--networks={','.join(request.param)}"
    return folder, request.param, call(SCRIPT, "--data=sample", f"--workdir={folder}", networks, *TINY).stdout


def test_trains_and_prints_table_3(trained):
    folder, networks, printed = trained
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [result["network"] for result in results] == networks
    assert "256 training, 32 validation and 32 test clips, 8 words" in printed and "clips/s" in printed
    table = printed[printed.index("Table 3") :].splitlines()
    assert [line.split()[0] for line in table[2:]] == networks
    ends = {"resnet34": "21.3  0.951 ± 0.002", "prodpoly": "13.2  0.951 ± 0.002"}
    assert all(line.endswith(ends[name]) for line, name in zip(table[2:], networks))
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in folder.rglob("config.json")]
    assert configs and all(config["fingerprint"] for config in configs)
    for name in networks:
        files = {path.name for path in (folder / name / "seed-0").iterdir()}
        assert {"model.keras", "labels.txt", "report.txt", "confusion.png", "curves.png", "history.csv"} <= files


def test_again_tested_and_asked(trained, tmp_path):
    folder, networks, printed = trained
    first = next(json.loads(line) for line in printed.splitlines() if line.startswith("{"))
    options = ["--data=sample", f"--workdir={folder}", f"--networks={networks[0]}"]
    again = call(SCRIPT, *options, *TINY).stdout
    assert "finished: 1 epochs" in again
    tested = call(SCRIPT, *options, "--eval_only").stdout
    for text in (again, tested):
        result = next(json.loads(line) for line in text.splitlines() if line.startswith("{"))
        assert (result["accuracy"], result["loss"], result["parameters"]) == (
            first["accuracy"],
            first["loss"],
            first["parameters"],
        )
    word = next((folder / "sample" / "ai").glob("*.wav"))
    asked = [SCRIPT, f"--workdir={folder}", f"--networks={','.join(networks)}"]
    answers = run(*asked, f"--predict={word}").stdout.splitlines()
    assert answers[0] == f"{word}, by {folder / networks[0] / 'seed-0'}:" and len(answers) == 6 * len(networks)
    assert {line.split()[1] for line in answers[1:6]} <= {path.name for path in (folder / "sample").iterdir()}
    broken = tmp_path / "broken.wav"
    broken.write_bytes(word.read_bytes()[:100])
    refused = call(*asked, f"--predict={broken}", check=False)
    assert refused.returncode == 1 and "error: A clip is a 16-bit PCM WAV file" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.long
def test_is_served_from_waveforms(trained, tmp_path):
    folder, _, _ = trained
    model = folder / "prodpoly" / "seed-0" / "model.keras"
    saved = call("export/saved_model.py", model, "--output", tmp_path, cwd=tmp_path).stdout.strip()
    signature = tf.saved_model.load(saved).signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    assert spec.shape.as_list() == [None, 16_000]
    waveforms = np.random.default_rng(0).uniform(-1, 1, (2, 16_000)).astype("float32")
    answer = signature(**{spec.name: tf.constant(waveforms)})["logits"]
    np.testing.assert_allclose(answer, keras.models.load_model(model)(waveforms), rtol=1e-3, atol=1e-4)
    call("export/tflite.py", saved, "--output", tmp_path / "speech.tflite", "--precision", "float32")


@pytest.mark.long
def test_a_folder_with_broken_files(tmp_path):
    for word in ("no", "yes"):
        (tmp_path / "clips" / word).mkdir(parents=True)
        for speaker in range(12):
            samples = np.random.default_rng(speaker).integers(-9000, 9000, 8000 + 1000 * speaker).astype("<i2")
            with wave.open(str(tmp_path / "clips" / word / f"{speaker}_nohash_0.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000 if speaker else 8000)
                file.writeframes(samples.tobytes())
    (tmp_path / "clips" / "no" / "text.wav").write_text("no sound")
    for file, speaker in (("validation_list.txt", 1), ("testing_list.txt", 2)):
        (tmp_path / "clips" / file).write_text(f"no/{speaker}_nohash_0.wav\nyes/{speaker}_nohash_0.wav\n")
    options = [f"--dataset={tmp_path / 'clips'}", f"--workdir={tmp_path / 'run'}", "--networks=prodpoly", *TINY]
    done = call(SCRIPT, *options, "--batch_size=4", "--noise_volume=0").stdout
    assert "left out: 3 files" in done and "  no/text.wav " in done and "  no/0_nohash_0.wav " in done


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dataset=none"], "A dataset is a folder of WORD/*.wav that exists"),
        (["--dataset=sample", "--batch_size=5000"], "batch_size=5000 for 256 training clips"),
        (["--networks=resnet34,vgg"], "lists some of resnet34, prodpoly"),
        (["--predict=a.wav"], "A trained network is a folder with model.keras and labels.txt"),
        (["--dataset=sample", "--milestones=1;2"], "--milestones lists numbers with commas"),
    ],
)
def test_bad_input(options, words, tmp_path):
    done = call(SCRIPT, f"--workdir={tmp_path / 'run'}", *TINY, *options, check=False)
    assert done.returncode != 0 and words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "resnet34").exists()
