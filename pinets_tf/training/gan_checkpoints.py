"""The state and the history of two networks that are trained against each other, such that a killed run can go on."""

import csv
import os
from pathlib import Path

from keras import ops

from pinets_tf.files import shown
from pinets_tf.training.checkpoints import rows_until
from pinets_tf.training.cluster import is_chief
from pinets_tf.training.runtime import Divergence
from pinets_tf.training.saved_state import arrays_of, assign_arrays, holder_not_finite, read_arrays, write_arrays

# Two, so that a file that a failing disk has damaged can be deleted and the run goes on from the one before.
_KEPT = 2
_PENDING = "pending"


class GanCheckpoints:
    """Writes every variable of a training into one file, in one step, and reads the last one.

    The variables are stored by holder and number, as `Adversaries.state` lists them, so that what the files of Keras
    leave out, the states of random generators, is there. With them is the sum of the losses that the history does not
    have yet.

    Args:
        workdir: the folder of the run; files are in `checkpoints` in it.
    """

    def __init__(self, workdir):
        self.folder = Path(workdir) / "checkpoints"

    def files(self):
        """Returns the paths of the checkpoints, the last one at the end."""
        return sorted(self.folder.glob("step_*.npz"))

    def save(self, adversaries, step, pending, remedy=""):
        """Writes a checkpoint and deletes all but the last two.

        Args:
            adversaries: `Adversaries`.
            step: how many steps are done.
            pending: an array that `restore` returns.
            remedy: what to try when a number is not finite.

        Raises:
            Divergence: if a number is not finite; nothing is written then.
        """
        arrays = arrays_of(adversaries.state())
        holder = holder_not_finite(arrays)
        if holder is not None:
            raise Divergence(
                "error: A checkpoint holds finite numbers. "
                f"Received: the {holder.replace('_', ' ')} after step {step:,}, with numbers that are not. "
                f"{kept(self)} {remedy}"
            )
        if not is_chief():
            return
        self.folder.mkdir(exist_ok=True)
        write_arrays(self.folder / f"step_{step:09d}.npz", {**arrays, _PENDING: pending})
        for old in self.files()[:-_KEPT]:
            old.unlink()

    def restore(self, adversaries):
        """Reads the last checkpoint, if there is one, and returns the steps done and what was pending, or 0 and `None`.

        Raises:
            ValueError: if the file cannot be read or is of other networks.
        """
        state = adversaries.state()
        arrays = self._read(state) if is_chief() else {}
        if not assign_arrays(state, arrays):
            return 0, None
        # Not int(...), which does not take the variables of a strategy.
        return int(ops.convert_to_numpy(adversaries.steps_done)), arrays.get(_PENDING)

    def _read(self, state):
        """Returns the arrays of the last checkpoint by name, or none."""
        if not self.files():
            return {}
        file = self.files()[-1]
        try:
            arrays = read_arrays(file, state, [_PENDING])
            if _PENDING not in arrays:
                raise ValueError(f"{_PENDING} is not there")
            return arrays
        except (OSError, ValueError) as error:
            raise ValueError(
                "A run goes on from the last checkpoint in its workdir, which must fit its networks. "
                f"Received: {file}, which cannot be loaded ({error}). "
                "Delete the file to go on from the one before, or all of them to start anew."
            ) from error


class GanHistory:
    """The rows of `history.csv`, one for each interval of the log, without gap or double row after a resumption.

    Args:
        workdir: the folder of the run.
        step: how many steps are done; later rows of the file are dropped.
    """

    def __init__(self, workdir, step):
        self.file = Path(workdir) / "history.csv"
        self.rows = []
        if step and self.file.exists():
            self.rows = rows_until(self.file, "step", step)

    def add(self, step, values):
        """Adds a row and writes the file."""
        self.rows.append({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        if not is_chief():
            return
        temporary = self.file.with_name(self.file.name + ".partial")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(temporary, self.file)

    def draw(self, picture, columns, title):
        """Draws columns against the step, in one panel.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "Pictures are drawn with matplotlib. Received: it is not installed. Install it with: "
                "pip install 'pinets_tf[examples]'"
            ) from error
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        for column in columns:
            points = [(int(row["step"]), float(row[column])) for row in self.rows]
            axes.plot(*zip(*points), label=column.replace("_", " "), marker="." if len(points) < 30 else "")
        axes.set(xlabel="step", ylabel="loss", title=shown(title))
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(picture, dpi=120)


def kept(checkpoints):
    """Returns a sentence that says from where a run that has gone wrong can go on."""
    files = checkpoints.files()
    return f"The last good state is kept: {files[-1]}." if files else "No state was saved before."
