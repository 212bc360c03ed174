"""The load generator, against a stand-in for the server."""

import pytest

from tests.commands import run
from tests.export.serving import stand_in

SCRIPT = "export/serving/load.py"


def test_requests_are_counted_and_drawn(server, files, tmp_path):
    server.model.faults += [*[None] * 6, "INTERNAL", "UNAVAILABLE"]
    options = ["--address", server.addresses["rest"], "--model", stand_in.NAME, "--threads", 3, "--batch_size", 2]
    pictures = [files / "cat.jpg", files / "dog.png", files / "dog.png"]
    done = run(SCRIPT, *options, "--requests", 20, "--picture", tmp_path / "latency.png", *pictures)
    # One request of each thread comes before.
    assert len(server.model.requests) == 23
    assert {samples for _, samples in server.model.requests} == {1, 2}
    values = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines()[1:11])
    assert (values["requests"], values["errors"]) == ("20", "2")
    latencies = [float(values[f"latency {name}, ms"]) for name in ("p50", "p90", "p95", "p99", "max")]
    assert latencies == sorted(latencies) and latencies[0] > 0
    assert "HTTP 500 Internal Server Error: the server is busy" in done.stdout
    assert "HTTP 503 Service Unavailable: the server is busy" in done.stdout
    assert (tmp_path / "latency.png").read_bytes()[:4] == b"\x89PNG"


def test_it_stops_by_itself(server, files):
    options = ["--address", server.addresses["rest"], "--model", stand_in.NAME, "--signature", "generate"]
    done = run(SCRIPT, *options, "--seconds", 0.3, "--requests", 1_000_000, files / "latents.npy")
    assert 4 < len(server.model.requests) < 1_000_000 and "latency p99, ms" in done.stdout


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--model", "other", "cat.jpg"], "HTTP 404 Not Found: Servable not found"),
        (["--model", "tiny", "--picture", "latency.txt", "cat.jpg"], "A picture is a .png file in an existing folder"),
        (["--model", "tiny", "cat.jpg", "yes.wav"], "Files are of one kind"),
    ],
)
def test_errors(server, files, arguments, words):
    done = run(SCRIPT, "--address", server.addresses["rest"], *arguments, cwd=files, check=False)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_errors_alone(server, files):
    server.model.faults += [None, *["UNAVAILABLE"] * 3]
    options = ["--address", server.addresses["rest"], "--model", stand_in.NAME, "--threads", 1, "--requests", 3]
    done = run(SCRIPT, *options, files / "cat.jpg", check=False)
    assert done.returncode == 1 and "Received: errors alone. See the table." in done.stderr
