"""The tests of the errors that docstrings of the modules that stand by themselves document."""

import numpy as np
from absl.flags import FLAGS

from pinets_tf import launch, script
from pinets_tf.npz import Npz
from tests.documented_errors.provoking import Case, arrays, written


def workdir_below_a_file(path):
    script.define_workdir(None, "")
    try:
        FLAGS([__name__, f"--workdir={written(path / 'notes') / 'run'}"])
    finally:
        delattr(FLAGS, "workdir")


TESTED: dict[str, dict[str, list[str | Case]]] = {
    "launch.of_hosts": {
        "ValueError": [
            Case(
                lambda path: launch.of_hosts("host1,host2"),
                "Workers are listed as hosts and ports",
                "--hosts=host1,host2 ('host1' is no host with a port from 1 to 65535)",
                "Pass for example --hosts=",
            ),
            Case(
                lambda path: launch.of_hosts("host1:8470,host2:8470", 2),
                "counts from 0 to 1 here",
                "--index=2 with 2 hosts",
                "Pass --index",
            ),
        ],
    },
    "launch.of_slurm": {
        "ValueError": [
            Case(lambda path: launch.of_slurm(), "A task of Slurm is started by srun", "SLURM", "Start it with srun"),
        ],
    },
    "launch.run_local": {
        "ValueError": [
            Case(
                lambda path: launch.run_local(1, []), "Several workers are two or more", "--local=1", "Pass --local=2"
            ),
            Case(
                lambda path: launch.run_local(2, [], -1),
                "Workers are started again 0 times or more",
                "--restarts=-1",
                "Pass --restarts=0",
            ),
        ],
    },
    "npz.Npz": {
        "ValueError": [
            Case(
                lambda path: Npz(written(path / "a.npz"), "Numbers are an .npz file"),
                "Numbers are an .npz file",
                "a.npz (7 bytes), which cannot be read",
                "or copy it again",
            ),
            Case(
                lambda path: Npz(arrays(path, x=np.array([None])), "Numbers are an .npz file")["x"],
                "Numbers are an .npz file",
                "which cannot be read (x holds Python objects)",
                "write plain arrays with numpy.savez",
            ),
        ],
    },
    "script.define_workdir": {
        "IllegalFlagValueError": [
            Case(
                workdir_below_a_file,
                "A workdir is a folder, made if it does not exist",
                "notes is a file",
                "Pass another --workdir",
            ),
        ],
    },
}
