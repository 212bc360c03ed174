"""Processes on one host or on several that train one network together, as `TF_CONFIG` describes them."""

import concurrent.futures
import contextlib
import json
import os
import socket
import sys
import time
import zlib

import keras
import numpy as np
import tensorflow as tf

from pinets_tf.addresses import wrong_address

# The strategy that all workers of this process's cluster share, which TensorFlow makes once in a process.
_joined: list[tf.distribute.Strategy] = []
POLL = 0.2


def workers():
    """Returns the addresses of all workers of `TF_CONFIG` and the number of this one, or an empty list and 0.

    The chief, if there is one, is number 0; else that is worker 0.

    Raises:
        ValueError: if `TF_CONFIG` is not what TensorFlow documents, or names other tasks.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return [], 0
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        if not cluster:
            return [], 0
        if set(cluster) - {"chief", "worker"}:
            raise ValueError(f"tasks of the kinds {', '.join(sorted(set(cluster) - {'chief', 'worker'}))}")
        own, number = task["type"], int(task["index"])
        addresses = [*cluster.get("chief", []), *cluster.get("worker", [])]
        index = number + (len(cluster.get("chief", [])) if own == "worker" else 0)
        if own not in cluster or not 0 <= number < len(cluster[own]):
            raise ValueError(f"no address for the task {own} {number}")
        wrong = wrong_address(addresses)
        if wrong:
            raise ValueError(wrong)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "TF_CONFIG lists the addresses of the workers, perhaps with one chief, and says which of them this process "
            f"is. Received: TF_CONFIG={text} ({error}). Pass for example "
            '{"cluster": {"worker": ["host1:8470", "host2:8470"]}, "task": {"type": "worker", "index": 0}}.'
        ) from error
    return addresses, index


def join(timeout):
    """Waits for all workers, and returns the strategy that they share.

    Everything that a worker prints from now on is kept to the chief.

    Args:
        timeout: for how many seconds to wait.

    Raises:
        ValueError: if `TF_CONFIG` has fewer than two workers, or TensorFlow was used before.
        TimeoutError: if a worker is missing.
    """
    if _joined:
        return _joined[0]
    addresses, index = workers()
    if len(addresses) < 2:
        raise ValueError(
            "Several workers find each other through TF_CONFIG. "
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG', '')!r}, with {len(addresses)} workers. "
            "Start them with python -m pinets_tf.launch, which sets it, or pass --strategy=auto for this host alone."
        )
    wait_for(addresses, index, timeout)
    # What it says of its devices would hide what the chief prints.
    tf.get_logger().setLevel("WARNING")
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "Workers are joined before TensorFlow computes anything. "
            f"Received: a process that has used it ({error}). Call set_up first."
        ) from error
    _joined.append(strategy)
    if index:
        print(f"worker {index} of {len(addresses)} ({addresses[index]}): worker 0 prints how it goes", flush=True)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, for the rest of the process.
    return strategy


def wait_for(addresses, index, timeout):
    """Waits until all workers can be reached, those too whose server of TensorFlow does not run yet.

    Each listens at its own address meanwhile.

    Raises:
        TimeoutError: if one cannot, with all that are missing.
        ValueError: if this worker cannot listen at its address.
    """
    missing = {number: address for number, address in enumerate(addresses) if number != index}
    deadline = time.monotonic() + timeout
    try:
        listener = _listen(_place(addresses[index])[1], len(addresses))
    except OSError as error:
        raise ValueError(
            "A worker listens at the port of its address. "
            f"Received: worker {index} at {addresses[index]}, where that failed ({error.strerror or error}). "
            "Pass another port to all workers, or end the process that has this one."
        ) from error
    with listener:
        while missing:
            for number, address in list(missing.items()):
                try:
                    socket.create_connection(_place(address), timeout=1).close()
                    del missing[number]
                except OSError:  # Also a name that is not known yet.
                    continue
            if missing and time.monotonic() > deadline:
                listed = ", ".join(f"worker {number} ({address})" for number, address in missing.items())
                raise TimeoutError(
                    "A training starts when all its workers can be reached. "
                    f"Received: no answer from {listed} within {timeout:g} s. Start all of them, with the same "
                    "addresses, or pass a longer --worker_timeout."
                )
            time.sleep(POLL if missing else 0)


def _listen(port, count):
    """Returns a socket for so many others, of both versions of IP where this host has both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=count)
    return socket.create_server(("", port), backlog=count)


def _place(address):
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def hosts():
    """Returns which worker this process is, and how many there are: (0, 1) where there is one process alone."""
    if not _joined:
        return 0, 1
    addresses, index = workers()
    return index, len(addresses)


def is_chief():
    """Returns whether this process is the one that writes and prints: the only one, or the first of several."""
    return hosts()[0] == 0


def host_share():
    """Returns which part of each batch this process reads: its number, the processes, and the replicas of each.

    Called inside the scope of the strategy.
    """
    index, count = hosts()
    return index, count, tf.distribute.get_strategy().num_replicas_in_sync // count


def alone(function, *arguments):
    """Returns what a function returns on this process alone, such as on the chief.

    In the scope of several workers' strategy a new variable, which saving and loading with Keras makes too, is one of
    all of them, and waits for them.
    """
    if not _joined:
        return function(*arguments)
    # The scope is that of a thread.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def broadcast(values):
    """Returns the arrays of worker 0 on all workers, which all pass arrays of the same shapes and types."""
    if not _joined:
        return values
    strategy = _joined[0]

    def gather():
        def of_first():
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            return [context.all_reduce("SUM", tf.where(first, value, tf.zeros_like(value))) for value in tensors]

        tensors = [tf.constant(value) for value in values]
        return [strategy.experimental_local_results(value)[0] for value in strategy.run(of_first)]

    return [np.asarray(value) for value in tf.function(gather).get_concrete_function()()]


def meet():
    """Waits until all workers are here, and know that they are."""
    broadcast([np.zeros((), "float32")])
    # A worker ends here, perhaps while another one waits for the rest of its last message, which says nothing new.
    with contextlib.suppress(tf.errors.OpError):
        broadcast([np.zeros((), "float32")])


def check_agreement(variables):
    """Compares the values of this worker with those of worker 0, bit for bit.

    Raises:
        RuntimeError: if they differ.
    """
    if not _joined:
        return
    own = 0
    for variable in variables:
        own = zlib.crc32(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes(), own)
    (first,) = broadcast([np.int64(own)])
    if first != own:
        raise RuntimeError(
            "All workers end with the same weights. "
            f"Received: worker {hosts()[0]} with others than worker 0 (checksums {own:08x} and {int(first):08x}). "
            "Give all workers the same data, flags and versions, and train again with another --workdir."
        )
