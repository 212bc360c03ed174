"""Workers are started with the addresses of all of them, and end together."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pinets_tf import launch
from pinets_tf.addresses import wrong_address
from tests.commands import ROOT

SCRIPT = """
import json, os, pathlib, sys
task = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
runs = pathlib.Path(sys.argv[1]) / f"worker-{task}"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
sys.exit(3 if task == 1 and len(runs.read_text()) < int(sys.argv[2]) else 0)
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]


def test_local_workers_are_started_again_together(tmp_path, script, capsys):
    assert launch.run_local(2, [*script, "2"]) == 3
    assert launch.run_local(2, [*script, "4"], restarts=5) == 0
    assert [(tmp_path / f"worker-{task}").read_text() for task in range(2)] == ["xxxx", "xxxx"]
    assert "restart 1 of 5" in capsys.readouterr().out
    assert launch.main(["--local=1", script[1], "--epochs=2"]) == 2
    assert "error: Several workers are two or more. Received: --local=1" in capsys.readouterr().err
    assert launch.main(["--local=2", "--restarts=-1", script[1]]) == 2
    assert "error: Workers are started again 0 times or more. Received: --restarts=-1" in capsys.readouterr().err


@pytest.mark.parametrize("status", [1, 2])
def test_what_repeats_itself_is_not_started_again(tmp_path, status, monkeypatch, capsys):
    command = [sys.executable, "-c", f"raise SystemExit({status})"]
    assert launch.run_local(2, command, restarts=1) == status
    assert capsys.readouterr().out == f"not started again: status {status} within 60 s repeats itself\n"
    # A worker that has run for longer.
    monkeypatch.setattr(launch, "FIRST", 0)
    assert launch.run_local(2, command, restarts=1) == status
    assert capsys.readouterr().out == "restart 1 of 1\n"


def test_a_worker_that_is_killed_is_started_again(capsys):
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert launch.run_local(2, command, restarts=1) == 128 + signal.SIGKILL
    assert capsys.readouterr().out == "restart 1 of 1\n"


# As a trainer: the first signal asks it to save its state, a second one ends it at once.
SAVES = """
import json, os, pathlib, signal, sys, time
def note(*received):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(0.6)
    file.write_text(f"{os.getpid()} saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, note)
file = pathlib.Path(sys.argv[1]) / str(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
file.write_text(f"{os.getpid()}")
time.sleep(20)
"""


# What becomes of a signal, where it is ignored at the start: as in `nohup`, and in the background of a shell script.
@pytest.mark.parametrize(
    "ignored, ends",
    [
        (None, [signal.SIGHUP, signal.SIGHUP]),
        (signal.SIGHUP, [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM]),
        (signal.SIGINT, [signal.SIGINT, signal.SIGTERM]),
    ],
)
def test_a_terminal_that_ends_does_not_leave_workers_behind(heard, tmp_path, ignored, ends):
    (tmp_path / "script.py").write_text(SAVES, encoding="utf-8")
    script = [str(tmp_path / "script.py"), str(tmp_path)]
    command = [sys.executable, "-m", "pinets_tf.launch", "--local=2", "--restarts=1", *script]
    if ignored:
        signal.signal(ignored, signal.SIG_IGN)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = [tmp_path / str(index) for index in range(2)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    for number in ends:
        process.send_signal(number)
        time.sleep(0.3)
    assert process.wait(60) == 143
    for pid, said in (file.read_text().split() for file in files):
        assert said == "saved"
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_signal_while_workers_are_started(heard, monkeypatch):
    start = subprocess.Popen

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return start(*arguments, **options)

    monkeypatch.setattr(launch.subprocess, "Popen", interrupted)
    assert launch.run_local(2, [sys.executable, "-c", "import time; time.sleep(20)"], restarts=1) == 143


@pytest.mark.parametrize(
    "address",
    ["b", "b:", ":8470", "b:0", "b:65536", "b:99999999999", "b:²", "::1:8470", "[]:8470", "a b:1", 8470, None],
)
def test_addresses_that_are_none(address):
    assert wrong_address(["a:1", address]) == f"{address!r} is no host with a port from 1 to 65535"


def test_an_address_of_two_workers():
    assert wrong_address(["a:1", "a:2", "b:1", "[::1]:65535", "[::2]:65535", "10.0.0.1:8470"]) is None
    assert wrong_address(["localhost:8470", "LOCALHOST:08470"]) == "'LOCALHOST:08470' is there twice"
    with pytest.raises(ValueError, match=r"--hosts=a:8470,a:8470 \('a:8470' is there twice\)\. Pass for example"):
        launch.of_hosts("a:8470,a:8470", 0)


def test_one_of_several_hosts(monkeypatch, capsys):
    described = {"cluster": {"worker": ["a:8470", "b:8471"]}, "task": {"type": "worker", "index": 1}}
    assert json.loads(launch.of_hosts("a:8470, b:8471", 1)) == described
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert json.loads(launch.of_hosts("a:8470,b:8471")) == described
    # Started with the flags of the script as they are.
    started = []
    monkeypatch.setattr(launch.os, "execv", lambda *command: started.append(command))
    monkeypatch.setenv("TF_CONFIG", "")
    launch.main(["--hosts=a:8470,b:8471", "--index=0", "train.py", "--workdir=run", "--index=7"])
    assert started == [(sys.executable, [sys.executable, "train.py", "--workdir=run", "--index=7"])]
    assert json.loads(launch.os.environ["TF_CONFIG"])["task"]["index"] == 0


def test_a_task_of_slurm(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    step = {"PROCID": "2", "STEP_NUM_TASKS": "4", "STEP_NODELIST": "node[01-02]", "STEP_TASKS_PER_NODE": "2(x2)"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURMD_NODENAME", "node02")
    config = json.loads(launch.of_slurm(9000))
    assert config["cluster"]["worker"] == ["node01:9000", "node01:9001", "node02:9000", "node02:9001"]
    assert config["task"] == {"type": "worker", "index": 2}
    monkeypatch.setenv("SLURMD_NODENAME", "node01")
    with pytest.raises(
        ValueError, match=r"numbers the hosts.*Received: task 2 on node01, where .* node02:9000 .*--hosts"
    ):
        launch.of_slurm(9000)
