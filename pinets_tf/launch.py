"""Starts a script as one or several of the workers that train together: `python -m pinets_tf.launch --help`.

A script finds the other workers through the environment variable `TF_CONFIG`, which this sets:

    python -m pinets_tf.launch --local=2 examples/imagenet.py --workdir=run          # two workers on this host
    srun python -m pinets_tf.launch --slurm examples/imagenet.py --workdir=run       # every task of a step of Slurm
    python -m pinets_tf.launch --hosts=a:8470,b:8470 --index=0 examples/imagenet.py --workdir=run     # one of them
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from pinets_tf.addresses import wrong_address
from pinets_tf.script import keep_printing

POLL = 0.2
# After SIGTERM, until a worker is killed.
GRACE = 60
# How long a worker must have run for its own error, with status 1 or 2, not to repeat itself.
FIRST = 60


def main(arguments=None):
    """Starts what the command line says, and ends with its status."""
    parser = argparse.ArgumentParser(prog="python -m pinets_tf.launch", description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--local", type=int, metavar="N", help="N workers on this host")
    which.add_argument("--hosts", metavar="HOST:PORT,...", help="the addresses of all workers, of which this is one")
    which.add_argument("--slurm", action="store_true", help="this task of a step of Slurm")
    parser.add_argument("--index", type=int, help="which of --hosts this is, from 0; JOB_COMPLETION_INDEX by default")
    parser.add_argument("--port", type=int, default=8470, help="with --slurm, the first port of a host")
    parser.add_argument("--restarts", type=int, default=0, help="with --local, how often all are started again at most")
    parser.add_argument("script", type=os.path.expanduser, help="a script, with its own flags after it")
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    command = [sys.executable, options.script, *options.flags]
    try:
        if options.local is not None:
            return run_local(options.local, command, options.restarts)
        config = of_slurm(options.port) if options.slurm else of_hosts(options.hosts, options.index)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ["TF_CONFIG"] = config
    sys.stdout.flush()
    os.execv(sys.executable, command)


def tf_config(addresses, index):
    """Returns the value of `TF_CONFIG` for one of several workers."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}})


def of_hosts(listed, index=None):
    """Returns `TF_CONFIG` for the worker `index` of a list such as `"a:8470,b:8470"`.

    Raises:
        ValueError: if the list or the index makes no sense.
    """
    addresses = [address.strip() for address in listed.split(",")]
    wrong = wrong_address(addresses)
    if wrong:
        raise ValueError(
            "Workers are listed as hosts and ports with commas between them. "
            f"Received: --hosts={listed} ({wrong}). Pass for example --hosts=host1:8470,host2:8470."
        )
    if index is None:
        index = int(os.environ.get("JOB_COMPLETION_INDEX", -1))
    if not 0 <= index < len(addresses):
        raise ValueError(
            f"The index of a worker counts from 0 to {len(addresses) - 1} here. Received: --index={index} with "
            f"{len(addresses)} hosts. Pass --index, or set JOB_COMPLETION_INDEX as an indexed job of Kubernetes does."
        )
    return tf_config(addresses, index)


def of_slurm(port=8470):
    """Returns `TF_CONFIG` for this task of a step of Slurm, as TensorFlow's resolver finds it.

    Raises:
        ValueError: if this is no task of Slurm, or the resolver has numbered the hosts in another order than Slurm.
    """
    import tensorflow as tf

    # The resolver shares out the GPUs of a host, and needs some; Slurm has done so where it has set this variable.
    no_gpus = {"gpus_per_node": 1000, "gpus_per_task": 1, "auto_set_gpu": False}
    shared = "CUDA_VISIBLE_DEVICES" in os.environ or shutil.which("nvidia-smi") is None
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=port, **no_gpus if shared else {})
        addresses = resolver.cluster_spec().as_dict()["worker"]
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"A task of Slurm is started by srun, which tells it of the others. Received: {error}. "
            "Start it with srun, or list the workers with --hosts."
        ) from error
    index = resolver.task_id
    here = os.environ.get("SLURMD_NODENAME")
    if here and addresses[index].rpartition(":")[0] != here:
        raise ValueError(
            "TensorFlow numbers the hosts of a step in the order of their names, Slurm in its own. "
            f"Received: task {index} on {here}, where TensorFlow expects {addresses[index]} ({', '.join(addresses)}). "
            "List the workers in the order of Slurm with --hosts, and pass --index=$SLURM_PROCID."
        )
    return tf_config(addresses, index)


def run_local(count, command, restarts=0):
    """Runs a command as several workers on this host, and returns the first status that is not 0, else 0.

    The status of a worker that a signal has ended is 128 + its number. Where one fails, all are ended, and started
    again up to `restarts` times; not where it ended with status 1 or 2 within the first minute, as with a wrong flag,
    since that repeats itself. SIGTERM and Ctrl-C are handed on, and the end of the terminal as SIGTERM.

    Raises:
        ValueError: if there are fewer than two, or `restarts` is negative.
    """
    if count < 2:
        raise ValueError(
            f"Several workers are two or more. Received: --local={count}. Pass --local=2, or start the script alone."
        )
    if restarts < 0:
        raise ValueError(
            f"Workers are started again 0 times or more. Received: --restarts={restarts}. Pass --restarts=0 for never."
        )
    for restart in range(1, restarts + 2):
        start = time.monotonic()
        status, stopped = _run_once(count, command)
        if status == 0 or stopped or restart > restarts:
            break
        if status in (1, 2) and time.monotonic() - start < FIRST:
            print(f"not started again: status {status} within {FIRST} s repeats itself", flush=True)
            break
        print(f"restart {restart} of {restarts}", flush=True)
    return status


def _run_once(count, command):
    """Returns the status of all workers together, and whether they were asked to stop."""
    addresses = [f"localhost:{port}" for port in _free_ports(count)]
    # Without a GPU each has its share of the cores; more threads than cores would get in each other's way.
    threads = str(max(1, (os.cpu_count() or count) // count))
    shared = {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads}
    processes: list[subprocess.Popen] = []
    received: list[int] = []

    def note(number, frame):
        # A terminal that ends may say so twice, and a second SIGTERM would end a worker that saves its state.
        if number == handed_on[number] or number not in received:
            received.append(number)

    handed_on: dict[int, int] = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT}
    if hasattr(signal, "SIGHUP"):  # There is none on Windows.
        handed_on[signal.SIGHUP] = signal.SIGTERM
    # What is ignored at the start stays so: SIGHUP after nohup, SIGINT of a program in the background of a script.
    handed_on = {number: to for number, to in handed_on.items() if signal.getsignal(number) is not signal.SIG_IGN}
    before = {number: signal.signal(number, note) for number in handed_on}
    try:
        for index in range(count):
            environment = {**shared, **os.environ, "TF_CONFIG": tf_config(addresses, index)}
            # A session of its own, so that Ctrl-C reaches it once.
            processes.append(subprocess.Popen(command, env=environment, start_new_session=True))
        done = 0
        while any(process.poll() is None for process in processes):
            for number in received[done:]:
                for process in processes:
                    process.send_signal(handed_on[number])
                done += 1
            if not received and any(process.returncode for process in processes):
                break
            time.sleep(POLL)
        # Before the others are ended: a status of its own says more than that of a worker that has lost another one.
        failed = [process.returncode for process in processes if process.returncode]
    finally:
        _end(processes)
        for number, handler in before.items():
            signal.signal(number, handler)
    status = failed[0] if failed else 0
    return 128 - status if status < 0 else status, bool(received)


def _end(processes):
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    keep_printing()
    sys.exit(main())
