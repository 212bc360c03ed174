"""The time of a call of each polynomial layer in eager mode against the same call in another state of the project.

    python benchmarks/against.py COMMIT

Each round starts one process on the files of this checkout and one on those of the commit, in turn. Both make the
layers of `tests/conformance/cases.py` that they share and call each with a batch of four: small inputs, so that what is
measured is what Python and Keras do around the operations. The least time of each layer over all rounds is compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURE = """
import json, timeit
from keras import ops, tree
from tests.conformance.cases import CASES
from pinets_tf.layers import {classes}

seconds = {{}}
for name, case in CASES.items():
    if issubclass(case.cls, ({classes})):
        layer = case.make()
        z = tree.map_structure(ops.convert_to_tensor, case.batch(4))
        layer(z)
        seconds[name] = min(timeit.repeat(lambda: layer(z), number={calls}, repeat={repeats})) / {calls}
print(json.dumps(seconds))
"""
CLASSES = "CCP, NCP, NCPSkip, Injection, PolynomialResidual, PooledProduct, ProdPoly, SpiralPolynomial"


def measured(root, arguments):
    """Returns the seconds of a call of each layer, in a process that imports what is in `root`."""
    code = MEASURE.format(classes=CLASSES, calls=arguments.calls, repeats=arguments.repeats)
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="what is compared with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "worktree", "add", "--detach", folder, arguments.commit], cwd=ROOT, check=True)
        try:
            rounds = [(measured(ROOT, arguments), measured(folder, arguments)) for _ in range(arguments.rounds)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)
    names = [name for name in rounds[0][0] if name in rounds[0][1]]
    least = {name: [min(times[name] for times in state) for state in zip(*rounds)] for name in names}
    for name, (here, there) in least.items():
        print(f"{name:40} {here * 1e6:8.0f} us {there * 1e6:8.0f} us   {here / there:.3f}")
    ratios = sorted(here / there for here, there in least.values())
    print(f"ratio: median {statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f}")


if __name__ == "__main__":
    main()
