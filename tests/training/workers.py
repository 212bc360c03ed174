"""Processes that train together, as the tests of several workers start them."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tensorflow", "keras"])


def start(count, train, folder, *arguments):
    """Starts `train(folder, number, *arguments)` in `count` processes."""
    from pinets_tf.launch import _free_ports, tf_config

    addresses = [f"localhost:{port}" for port in _free_ports(count)]
    processes = []
    for number in range(count):
        config = tf_config(addresses, number)
        process = FORKS.Process(target=_work, args=(config, train, str(folder), number, *arguments))
        process.start()
        processes.append(process)
    return processes


def _work(config, train, folder, number, *arguments):
    Path(folder).mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # A shell that starts the tests may have it ignored.
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    if json.loads(config)["cluster"]["worker"][1:]:
        os.environ["TF_CONFIG"] = config
    train(Path(folder), number, *arguments)


def wait(processes, seconds=120):
    """Waits for all, and returns their statuses; what does not end is killed."""
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def printed(folder):
    """Returns what the processes in a folder have printed."""
    return {path.name: path.read_text(errors="replace") for path in sorted(Path(folder).glob("[oe][ur][tr]-*"))}
