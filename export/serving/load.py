"""Asks a model of TensorFlow Serving from several threads at once, and measures how long it takes to answer.

    python export/serving/load.py --model order2 --requests 1000 --threads 8 cat.jpg dog.png
    python export/serving/load.py --address localhost:8500 --protocol grpc --model order2 --seconds 30 images.npy

It ends after --requests or --seconds, whichever is first; no request is tried again. Other machines than this one are
asked only if --address names them. Prints a table of throughput, latency and errors; --picture draws latencies. This is
Python: with small models it can be what limits the throughput, which shows as a processor that the client fills.
"""

import argparse
import dataclasses
import sys
import threading
import time
from collections import Counter

import numpy as np
from client import (
    ServerError,
    add_server_flags,
    connect,
    expanded,
    find_signature,
    print_table,
    read_batches,
    seconds,
    signature_of,
    the_input,
    whole,
)

PERCENTILES = (50, 90, 95, 99, 100)


@dataclasses.dataclass(frozen=True)
class Answer:
    """One request: when it was sent, in seconds since the start, how long it took, how many samples, which error."""

    sent_s: float
    latency_s: float
    samples: int
    error: str | None


def run_load(clients, signature, batches, requests, limit_s):
    """Sends batches, one after the other and again from the first, from a thread for each client.

    Args:
        clients: a `client.Client` for each thread.
        signature: the name of the signature.
        batches: dictionaries of inputs.
        requests: how many requests are sent at most.
        limit_s: seconds after which no further one is sent.

    Returns:
        A list of `Answer` by time, and the seconds until the last one.
    """
    answers = []
    numbers = iter(range(requests))
    start = time.perf_counter()

    def work(client):
        # Steps of an iterator of a range and `append` are atomic.
        for number in numbers:
            sent = time.perf_counter()
            if sent - start >= limit_s:
                return
            inputs, error = batches[number % len(batches)], None
            try:
                client.predict(signature, inputs)
            except ServerError as raised:
                error = str(raised)
            samples = len(next(iter(inputs.values())))
            answers.append(Answer(sent - start, time.perf_counter() - sent, samples, error))

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(answers, key=lambda answer: answer.sent_s), time.perf_counter() - start


def summarize(answers, elapsed_s):
    """Returns rows for `print_table`: throughput, latency in milliseconds by nearest rank, and errors."""
    good = [answer for answer in answers if answer.error is None]
    rows = [
        ("", "value"),
        ("requests", len(answers)),
        ("errors", len(answers) - len(good)),
        ("seconds", f"{elapsed_s:.2f}"),
        ("answers/s", f"{len(good) / elapsed_s:.1f}"),
        ("samples/s", f"{sum(answer.samples for answer in good) / elapsed_s:.1f}"),
    ]
    if good:
        latencies = np.percentile([1000 * answer.latency_s for answer in good], PERCENTILES, method="inverted_cdf")
        for percentile, latency in zip(PERCENTILES, latencies):
            rows.append((f"latency {'max' if percentile == 100 else f'p{percentile}'}, ms", f"{latency:.2f}"))
    errors = Counter(answer.error for answer in answers if answer.error is not None)
    return [*rows, *((f"{count}x", error) for error, count in errors.most_common(5))]


def draw(answers, path, title):
    """Draws the latency of each request over time, and how the latencies are distributed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    over_time, distribution = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for failed, color, label in ((False, "C0", "answer"), (True, "C3", "error")):
        part = [answer for answer in answers if (answer.error is not None) == failed]
        if part:
            latencies = [1000 * answer.latency_s for answer in part]
            over_time.plot([answer.sent_s for answer in part], latencies, ".", color=color, label=label, markersize=4)
            distribution.hist(latencies, bins=50, orientation="horizontal", color=color, alpha=0.7)
            if not failed:
                marks = np.percentile(latencies, PERCENTILES[:-1], method="inverted_cdf")
                for percentile, latency in zip(PERCENTILES, marks):
                    distribution.axhline(latency, color="black", linewidth=0.7)
                    distribution.annotate(f"p{percentile}", (1, latency), xycoords=("axes fraction", "data"))
    over_time.set(xlabel="sent after, s", ylabel="latency, ms", ylim=(0, None))
    over_time.legend()
    over_time.grid(alpha=0.3)
    distribution.set(xlabel="requests")
    figure.suptitle(title)
    figure.savefig(path, dpi=120, format="png")


def check_picture(path):
    """Raises an error if a picture could not be drawn after the measurement."""
    if path.suffix != ".png" or not path.parent.is_dir():
        raise ValueError(
            f"A picture is a .png file in an existing folder. Received: {path}. Pass for example latency.png."
        )
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
            "pip install 'pinets_tf[examples]'"
        ) from error


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=expanded, help="images, or .wav files, or .npy files")
    parser.add_argument("--address", default="127.0.0.1:8501", help="host and port; by default REST of this machine")
    add_server_flags(parser, batch_size=1)
    parser.add_argument("--requests", type=whole(1, 1_000_000), default=1000, help="requests at most, by default 1000")
    parser.add_argument("--seconds", type=seconds(3600), default=60.0, help="seconds at most, by default 60")
    parser.add_argument("--threads", type=whole(1, 256), default=4, help="requests at the same time, by default 4")
    parser.add_argument("--picture", type=expanded, help="the .png file to draw the latencies to")
    options = parser.parse_args(arguments)
    try:
        if options.picture:
            check_picture(options.picture)
        signature = signature_of(options.files) if options.signature == "auto" else options.signature
        first, *others = (connect(options, retries=0) for _ in range(options.threads))
        name = the_input(find_signature(first.signatures(), signature), signature)
        batches = [{name: values} for _, values in read_batches(options.files, options.batch_size)]
        # What the server refuses ends here, and the time of first requests does not count.
        for client in (first, *others):
            client.predict(signature, batches[0])
        answers, elapsed_s = run_load([first, *others], signature, batches, options.requests, options.seconds)
        print_table(summarize(answers, elapsed_s))
        if options.picture:
            draw(answers, options.picture, f"{options.model} over {options.protocol}, {options.threads} threads")
    except (ImportError, OSError, ServerError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    if all(answer.error for answer in answers):
        sys.exit(f"{parser.prog}: A load needs a server that answers. Received: errors alone. See the table.")


if __name__ == "__main__":
    # A console may lack letters of what is printed.
    sys.stdout.reconfigure(errors="backslashreplace")
    main()
