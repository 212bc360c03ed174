"""Workers are started with the addresses of all of them, and end together."""

import json
import sys

import pytest

from pinets_tf import launch

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
