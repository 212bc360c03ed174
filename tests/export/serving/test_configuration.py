"""Configuration files of the server, and the commands of the README.

For batching and monitoring the API package has no protocol buffers: of those files it is read only whether they are
well formed and have known names.
"""

import json
import re
import shlex

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.serving import client
from tests.commands import ROOT, run

KIT = ROOT / "export" / "serving"
FIELDS = {
    "batching.config": {"max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches"},
    "monitoring.config": {"prometheus_config"},
}


def test_models():
    text = (KIT / "models.config").read_text("ascii")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("order2", "/models/order2", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1
    # What is commented out takes the place of the policy.
    text = re.sub(r"\n *model_version_policy .*", "", text).replace("#:", "")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


@pytest.mark.parametrize("name", FIELDS)
def test_other_configurations_are_well_formed(name):
    text = re.sub(r"#.*", "", (KIT / name).read_text("ascii"))
    value = r'(?:\d+|true|false|"[^"]*")'
    fields = re.findall(rf"(\w+) \{{((?:\s*\w+: {value}\s*)+)\}}", text)
    assert {field for field, _ in fields} == FIELDS[name]
    assert re.sub(r"\s", "", text) == "".join(f"{field}{{{inner}}}" for field, inner in fields).translate(
        dict.fromkeys(map(ord, " \n"))
    )


def test_compose_mounts_what_its_flags_name():
    text = (KIT / "compose.yaml").read_text("ascii")
    assert "- .:/config:ro" in text and "- --enable_batching=true" in text
    named = re.findall(r"--(\w+_file)=/config/(\S+)", text)
    assert [flag for flag, _ in named] == ["model_config_file", "batching_parameters_file", "monitoring_config_file"]
    assert all((KIT / file).is_file() for _, file in named)
    # Published for this machine alone, at the ports that the server has.
    assert re.findall(r'- "(.*)"', text) == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]


def test_commands_of_the_readme(server, saved_model, files, tmp_path, monkeypatch, capsys):
    for name in ("cat.jpg", "images.npy"):
        (tmp_path / name).symlink_to(files / name)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "order2").symlink_to(saved_model.parent)
    monkeypatch.chdir(tmp_path)
    real = {"localhost:8500": server.addresses["grpc"], "localhost:8501": server.addresses["rest"], "order2": "tiny"}
    blocks = re.findall(r"```bash\n(.*?)```", (KIT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    scripts = []
    for _, script, *arguments in (command for command in commands if command[1].startswith("export/serving/")):
        arguments = [real.get(argument, argument) for argument in arguments]
        if script == "export/serving/client.py":
            client.main(arguments)  # In this process, as gRPC takes seconds to import.
        else:
            run(script, *arguments, cwd=tmp_path, forked=not script.endswith("c_api.py"))
        scripts.append(script)
    assert set(scripts) == {f"export/serving/{name}.py" for name in ("client", "load", "c_api")}
    out = capsys.readouterr().out
    assert "AVAILABLE" in out and "cat.jpg" in out and "images.npy[0]" in out
    assert (tmp_path / "answers.npz").is_file() and (tmp_path / "latency.png").is_file()
    (body,) = (command[command.index("-d") + 1] for command in commands if command[0] == "curl")
    assert json.loads(body)["signature_name"] == "encoded_images"
