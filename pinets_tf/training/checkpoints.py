"""Saving a run after every epoch and when it is interrupted, and going on from there."""

import csv
import os
from pathlib import Path

import keras

from pinets_tf.training.cluster import is_chief
from pinets_tf.training.runtime import Divergence
from pinets_tf.training.saved_state import arrays_of, assign_arrays, holder_not_finite, read_arrays, write_arrays

_METRICS = "metrics"


class Checkpoints(keras.callbacks.Callback):
    """Saves weights, optimizer and history after every epoch, such that a killed run can go on.

    The state is one file, replaced in one step, so that it is never half written; it has the number of steps that are
    done. The history has one row an epoch, rewritten before the state. A run that is interrupted by a signal saves its
    state in the middle of an epoch, with the sums of its metrics so far, and ends. Of several processes the first one
    reads and writes, and the others get what it has read.

    Args:
        folder: where `checkpoint.npz` and `history.csv` are.
        steps_per_epoch: steps in an epoch.
        interruption: an `Interruption`, or `None`.
        remedy: what to try when a number is not finite.
    """

    def __init__(self, folder, steps_per_epoch, interruption=None, remedy=""):
        super().__init__()
        self.file = Path(folder) / "checkpoint.npz"
        self.history_file = Path(folder) / "history.csv"
        self.steps_per_epoch = steps_per_epoch
        self.interruption = interruption
        self.remedy = remedy
        self.history = []
        self.first_step = 0
        self._in_an_epoch, self._so_far = False, {}

    def restore(self, model):
        """Loads the last saved state into a compiled `ReplicaModel`, if there is one.

        Returns:
            How many epochs are done. How many steps of the next one are is in `first_step`.

        Raises:
            ValueError: if a file cannot be read or does not fit the model.
        """
        model.optimizer.build(model.trainable_variables)
        state, arrays = _state(model), {}
        if is_chief() and self.file.exists():
            try:
                arrays = read_arrays(self.file, state, [_METRICS])
            except (OSError, ValueError) as error:
                raise ValueError(
                    "A run goes on from the checkpoint in its workdir, which must fit its model. "
                    f"Received: {self.file}, which cannot be loaded ({error}). Delete the file to start anew."
                ) from error
        assign_arrays(state, arrays)
        # Not int(...), which does not take the variables of a strategy.
        steps = int(keras.ops.convert_to_numpy(model.steps_done))
        epochs, self.first_step = divmod(steps, self.steps_per_epoch)
        self._in_an_epoch = self.first_step > 0
        self._so_far = {name: array for name, array in arrays.items() if name.startswith(_METRICS)}
        if is_chief() and self.history_file.exists():
            self.history = rows_until(self.history_file, "epoch", epochs)
        return epochs

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if not self._in_an_epoch:
            self.first_step = 0
            return
        self._in_an_epoch = False
        assign_arrays(self._metrics(), self._so_far)

    def on_train_batch_end(self, batch, logs=None):
        if self.interruption is None or not self.interruption.due:
            return
        step = self.first_step + batch + 1
        if step < self.steps_per_epoch:  # The end of an epoch is saved as always, and looked at there.
            where = f"step {step} of {self.steps_per_epoch} of epoch {self._epoch + 1}"
            self._save(where, self._metrics())
            self.interruption.leave(f"the state after {where}")

    def _metrics(self):
        return {_METRICS: [variable for metric in self.model.metrics for variable in metric.variables]}

    def _save(self, where, metrics=None):
        arrays = arrays_of(_state(self.model))
        holder = holder_not_finite(arrays)
        if holder is not None:
            kept = f"The last good state is kept: {self.file}." if self.file.exists() else "No state was saved before."
            raise Divergence(
                "error: A checkpoint holds finite numbers. "
                f"Received: the {holder} after {where}, with numbers that are not. {kept} {self.remedy}"
            )
        if metrics:
            arrays |= arrays_of(metrics)
        if is_chief():
            write_arrays(self.file, arrays)

    def on_epoch_end(self, epoch, logs=None):
        self.history.append({"epoch": epoch + 1, **{name: f"{value:.6g}" for name, value in (logs or {}).items()}})
        self._write_history()
        self._save(f"epoch {epoch + 1}")
        if self.interruption is not None and self.interruption.due:
            self.interruption.leave(f"the state after epoch {epoch + 1}")

    def _write_history(self):
        if not is_chief():
            return
        temporary = self.history_file.with_name(self.history_file.name + ".partial")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.history[-1]), extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(self.history)
        os.replace(temporary, self.history_file)


def _state(model):
    return {"model": model.variables, "optimizer": model.optimizer.variables}


def rows_until(file, counter, last):
    """Returns the rows of a history whose counter, such as the epoch, is at most `last`.

    Raises:
        ValueError: if it is no table with that counter.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if int(row[counter]) <= last]
            cut = [row[counter] for row in rows if None in row.values()]
            if cut:
                raise ValueError(f"the row of {counter} {cut[0]} is not whole")
            return rows
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"A history is a table with a column of integers, {counter}. "
            f"Received: {file}, which cannot be read ({type(error).__name__}: {error}). Delete it to go on without."
        ) from error
