"""The client: the same answers, errors and patience over REST and gRPC, against a stand-in for the server."""

import http.client
import json
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export.serving import client
from tests.commands import ROOT, run
from tests.export.serving import models, stand_in

both = pytest.mark.parametrize("protocol", ["rest", "grpc"])


def connect(server, protocol, model=stand_in.NAME, **options):
    return client.PROTOCOLS[protocol](server.addresses[protocol], model, **options)


def ask(server, protocol, *arguments):
    given = ["--protocol", protocol, "--address", server.addresses[protocol], "--model", stand_in.NAME]
    client.main([*given, *map(str, arguments)])


def expected(server, signature, **inputs):
    outputs = server.model.loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


@both
@pytest.mark.parametrize("batch_size", [1, 5])
def test_arrays(server, protocol, batch_size, files):
    images = np.load(files / "images.npy")
    labels, outputs = client.ask(connect(server, protocol), [files / "images.npy"], batch_size=batch_size)
    assert labels == [f"{files / 'images.npy'}[{row}]" for row in range(5)]
    assert server.model.requests == [("serving_default", batch_size)] * (5 // batch_size)
    for name, value in expected(server, "serving_default", images=images.astype("float32")).items():
        assert outputs[name].dtype == value.dtype
        if name == "classes":
            assert outputs[name].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(outputs[name], value, rtol=1e-5)


@both
def test_strings_and_two_inputs(server, protocol):
    words = np.array([b"\xff\0a\0", b"", b"pi"], object)
    outputs = connect(server, protocol).predict("repeat", {"words": words, "times": np.array([2, 3, 1])})
    assert outputs["word_bytes"].tolist() == [b"\xff\0a\0\xff\0a\0", b"", b"pi"]
    assert outputs["word"].tolist() == [8, 0, 2] and outputs["word"].dtype == np.int64


@both
def test_image_files(server, protocol, files, tmp_path, capsys):
    pictures = [files / "cat.jpg", files / "dog.png", files / "cat.jpg"]
    ask(server, protocol, "--batch_size", 2, "--output", tmp_path / "answers.npz", *pictures)
    assert server.model.requests == [("encoded_images", 2), ("encoded_images", 1)]
    answers = expected(server, "encoded_images", image_bytes=[file.read_bytes() for file in pictures])
    with np.load(tmp_path / "answers.npz") as saved:
        assert sorted(saved) == ["classes", "logits", "probabilities"]
        np.testing.assert_allclose(saved["logits"], answers["logits"], rtol=1e-4)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["file", "1.", "class"]
    for line, file, row in zip(lines, pictures, answers["probabilities"], strict=True):
        best = row.argmax()
        assert line.split()[:4] == [str(file), str(best), models.NAMES[best], f"({row[best]:.4f})"]


@both
def test_a_sound_and_pixels(server, protocol, files, tmp_path, capsys):
    ask(server, protocol, files / "yes.wav")
    assert capsys.readouterr().out.splitlines()[1].split()[1:] == ["loudness", "float32", "scalar", *["0.5"] * 3]
    ask(server, protocol, "--signature", "generate", "--output", tmp_path / "images.npy", files / "latents.npy")
    assert capsys.readouterr().out.splitlines()[1].split()[1:5] == ["images", "uint8", "1x2x1", "127"]
    images = np.load(tmp_path / "images.npy")
    assert images.dtype == np.uint8 and images.ravel().tolist() == [127, 255, 0, 153]


@both
def test_status_and_metadata(server, protocol, capsys):
    ask(server, protocol, "--status", "--metadata", "--label", "stable")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "AVAILABLE"] in lines
    assert ["encoded_images", "input", "image_bytes", "DT_STRING", "[None]"] in lines
    assert ["serving_default", "input", "images", "DT_FLOAT", "[None,", "4,", "4,", "3]"] in lines
    assert connect(server, protocol, version=1).status() == [(1, "AVAILABLE", "")]


@both
def test_the_signature_that_initialises_is_not_offered(server, protocol, monkeypatch):
    offered = connect(server, protocol).signatures()
    definition = meta_graph_pb2.SignatureDef(
        outputs={"__saved_model_init_op": meta_graph_pb2.TensorInfo(name="NoOp", tensor_shape={"unknown_rank": True})}
    )
    monkeypatch.setitem(server.model.definitions, "__saved_model_init_op", definition)
    assert connect(server, protocol).signatures() == offered


@both
def test_what_the_server_refuses_is_not_tried_again(server, protocol):
    not_found = {"rest": "HTTP 404 Not Found", "grpc": "NOT_FOUND"}[protocol]
    invalid = {"rest": "HTTP 400 Bad Request", "grpc": "INVALID_ARGUMENT"}[protocol]
    for model, version in (("other", None), (stand_in.NAME, 7)):
        with pytest.raises(client.ServerError, match="Servable not found") as caught:
            connect(server, protocol, model, version=version).signatures()
        assert caught.value.code == not_found
    images = np.zeros((1, 4, 4, 3))
    for inputs, words in (({"image": images}, "image"), ({"images": images[:, :2]}, "not compatible")):
        server.model.requests.clear()
        with pytest.raises(client.ServerError, match=words) as caught:
            connect(server, protocol).predict("serving_default", inputs)
        assert caught.value.code == invalid and len(server.model.requests) <= 1
    server.model.faults.append("INTERNAL")
    with pytest.raises(client.ServerError, match="busy"):
        connect(server, protocol).predict("generate", {"latents": np.zeros((1, 2))})
    assert server.model.faults == []


@both
def test_what_may_pass_is_tried_again(server, protocol, monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    server.model.faults += ["UNAVAILABLE", "DEADLINE_EXCEEDED"]
    latents = {"latents": np.zeros((1, 2))}
    assert connect(server, protocol).predict("generate", latents)["images"].ravel().tolist() == [127, 127]
    assert len(server.model.requests) == 3 and waits == [0.1, 0.2]
    server.model.faults += ["UNAVAILABLE"] * 2
    with pytest.raises(client.ServerError, match="busy"):
        connect(server, protocol, retries=1).predict("generate", latents)
    assert server.model.faults == []


@both
def test_a_late_answer(server, protocol):
    latents, answer = {"latents": np.zeros((1, 2))}, threading.Event()
    asked = connect(server, protocol, timeout=2.0, retries=0)
    asked.signatures()
    server.model.faults.append(answer)
    with pytest.raises(client.ServerError, match="DEADLINE_EXCEEDED") as caught:
        asked.predict("generate", latents)
    answer.set()
    assert caught.value.passing
    assert asked.predict("generate", latents)["images"].shape == (1, 1, 2, 1)


@both
def test_no_server(protocol):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        asked = client.PROTOCOLS[protocol](address, "tiny", retries=1)
        with pytest.raises(client.ServerError, match="UNAVAILABLE") as caught:
            asked.status()
    assert caught.value.passing


def test_another_server_of_http(server, monkeypatch):
    monkeypatch.setattr(stand_in.Handler, "describe", lambda self: ["something"])
    with pytest.raises(client.ServerError, match=r'HTTP 200 OK: \["something"\]'):
        connect(server, "rest").signatures()


def test_the_format_of_rows(server):
    # The client sends columns; what the README shows with curl is of rows.
    connection = http.client.HTTPConnection(server.addresses["rest"])
    for signature, instances, predictions in (
        ("generate", [[0, 1], [-1, 0.2]], [[[[127], [255]]], [[[0], [153]]]]),
        ("generate", [{"latents": [0, 1]}], [[[[127], [255]]]]),
        ("repeat", [{"words": "pi", "times": 2}], [{"word": 4, "word_bytes": {"b64": "cGlwaQ=="}}]),
        ("repeat", [{"words": {"b64": "/w=="}, "times": 1}], [{"word": 1, "word_bytes": {"b64": "/w=="}}]),
    ):
        body = json.dumps({"signature_name": signature, "instances": instances})
        connection.request("POST", "/v1/models/tiny/versions/1:predict", body)
        assert json.loads(connection.getresponse().read()) == {"predictions": predictions}
    connection.request("POST", "/v1/models/tiny:predict", '{"instances": ["a"]}')
    answer = connection.getresponse()
    assert answer.status == 400 and "not of expected type" in json.loads(answer.read())["error"]
    connection.close()


def test_rest_needs_no_tensorflow(server, files):
    program = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(sorted({"tensorflow", "keras", "grpc", "pinets_tf"} & sys.modules.keys()))
"""
    script = ROOT / "export" / "serving" / "client.py"
    command = [sys.executable, "-c", program, script, "--address", server.addresses["rest"], "--model", "tiny"]
    done = subprocess.run([*command, files / "cat.jpg"], capture_output=True, text=True, check=True)
    assert "cat.jpg" in done.stdout and done.stdout.splitlines()[-1] == "[]"


def test_an_error_is_a_message_alone(server):
    options = ["--address", server.addresses["rest"], "--model", "other", "--status"]
    done = run("export/serving/client.py", *options, check=False)
    assert done.returncode == 1
    assert done.stderr == "client.py: HTTP 404 Not Found: Servable not found for request: other Latest\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--address", "localhost", "cat.jpg"], "is HOST:PORT. Received: localhost. Pass for example"),
        (["--address", "http://localhost:8501", "cat.jpg"], "is HOST:PORT. Received: http://localhost:8501"),
        (["cat.jpg", "images.npy"], "Files are of one kind"),
        (["notes.txt"], "Received: notes.txt. Pass files that end in .jpg"),
        (["none.jpg"], "No such file or directory: 'none.jpg'"),
        (["bad.npy"], "bad.npy, which cannot be read"),
        (["zip.npy"], "zip.npy, which cannot be read"),
        (["zero.npy"], "Received: zero.npy of shape (0, 4, 4, 3). Write an array"),
        (["--signature", "missing", "cat.jpg"], "Received: missing. Pass one of these with --signature: compiled"),
        (["--signature", "serving_default", "cat.jpg"], "Received: images of object. Pass an array of DT_FLOAT"),
        (["--signature", "encoded_images", "images.npy"], "Received: image_bytes of float64. Pass files of images"),
        (["--signature", "repeat", "images.npy"], "with one input. Received: repeat with times, words"),
        (["--output", "out.npy", "images.npy"], "An .npy file holds one output. Received: out.npy"),
        (["--output", "out.csv", "images.npy"], "Received: out.csv. Pass for example answers.npz"),
    ],
)
def test_errors(server, files, arguments, words, monkeypatch):
    monkeypatch.chdir(files)
    (files / "bad.npy").write_bytes(b"")
    np.save("zero.npy", np.zeros((0, 4, 4, 3)))
    with open("zip.npy", "wb") as file:
        np.savez(file, np.zeros(3))
    with pytest.raises(SystemExit) as caught:
        ask(server, "rest", *arguments)
    assert words in caught.value.code
    assert not list(files.glob("out*"))


def test_values_of_flags(server, capsys):
    for arguments, words in (
        (["--timeout", "0", "cat.jpg"], "Received: 0. Pass such a number"),
        (["--retries", "99", "cat.jpg"], "from 0 to 20 is needed. Received: 99"),
        ([], "Files are sent, or --status or --metadata is asked for"),
    ):
        with pytest.raises(SystemExit):
            ask(server, "rest", *arguments)
        assert words in capsys.readouterr().err


def test_grpc_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"pip install 'pinets_tf\[serving\]', or use --protocol rest"):
        client.GrpcClient("localhost:8500", "tiny")


def test_the_port_of_the_other_protocol(server):
    asked = client.RestClient(server.addresses["grpc"], stand_in.NAME, retries=0)
    with pytest.raises(client.ServerError, match="is this the port of REST"):
        asked.status()
