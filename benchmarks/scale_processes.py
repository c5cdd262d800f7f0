"""Seconds of training steps of 64 images that the processes of torchrun share, and their profile.

Process 0 prints both as JSON.
"""

import json
import os
import sys
import time

import torch

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
from benchmarks.profiles import of_operations
from benchmarks.train_steps import EPOCH, Work, plain_recipe
from pipeline.params import load_params
from training.distributed import joined, own_rank
from training.losses import label_loss
from training.optimization import Schedule
from training.step import TrainingStep

BATCH = 64  # of all processes together


def main(rounds: int, size: int) -> None:
    torch.set_num_threads(1)
    recipe = plain_recipe(load_params()).model_copy(update={"processes": size})
    work = Work("vargconvnet_32", {}, 10, 32, BATCH // size, recipe, torch.device("cpu"))
    with joined(size, work.device) as group:
        step = TrainingStep(work.model(), recipe, label_loss(recipe.label_smoothing), group=group)
        step.train()
        schedule, seconds = Schedule(step.optimizer, recipe, EPOCH), []
        own = range(own_rank(size), own_rank(size) + 1)
        for number in range(rounds + 2):
            start = time.perf_counter()
            schedule.before_step(number)
            step((work.images(),), own, (0, 0, number), number + 1)
            seconds.append(time.perf_counter() - start)
        profile = of_operations(lambda: step((work.images(),), own, (0, 0, 0), 1))
        if group.rank == 0:
            print(json.dumps([seconds[2:], profile]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(os.environ["WORLD_SIZE"]))
