"""Learning rates that rise linearly at the start and fall in steps."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="pinets_tf")
class StepSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that falls at milestones, after a linear warm-up if there is one.

        warm_up_from + (peak - warm_up_from) * step / warm_up_steps    while step < warm_up_steps
        peak * factor^(number of milestones that are <= step)          after that

    Args:
        peak: the learning rate after the warm-up.
        milestones: steps from which on the rate is lower.
        factor: what the rate is multiplied with at each milestone.
        warm_up_steps: length of the warm-up; 0 for none.
        warm_up_from: the learning rate of the first step of the warm-up.

    Raises:
        ValueError: if `warm_up_steps` is negative or a milestone lies within the warm-up.

    Source: steps as in He et al., CVPR 2016; warm-up as in Goyal et al., "Accurate, Large Minibatch SGD", 2017.
    """

    def __init__(self, peak, milestones=(), factor=0.1, warm_up_steps=0, warm_up_from=0.0):
        if warm_up_steps < 0:
            raise ValueError(
                f"A warm-up has 0 steps or more. Received: warm_up_steps={warm_up_steps}. Pass 0 for none."
            )
        if any(0 < milestone < warm_up_steps for milestone in milestones):
            raise ValueError(
                "The learning rate falls after the warm-up. "
                f"Received: warm_up_steps={warm_up_steps}, milestones={list(milestones)}. Pass a shorter warm-up."
            )
        self.peak = float(peak)
        self.milestones = sorted(map(int, milestones))
        self.factor = float(factor)
        self.warm_up_steps = int(warm_up_steps)
        self.warm_up_from = float(warm_up_from)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        fallen = sum((ops.cast(step >= milestone, "float32") for milestone in self.milestones), ops.zeros(()))
        rate = self.peak * ops.power(self.factor, fallen)
        if not self.warm_up_steps:
            return rate
        warm = self.warm_up_from + (self.peak - self.warm_up_from) * step / self.warm_up_steps
        return ops.where(step < self.warm_up_steps, warm, rate)

    def get_config(self):
        return {
            "peak": self.peak,
            "milestones": self.milestones,
            "factor": self.factor,
            "warm_up_steps": self.warm_up_steps,
            "warm_up_from": self.warm_up_from,
        }
