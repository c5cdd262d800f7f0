"""What `stages.bench_train --data` measures: training as params.yaml describes it, with pictures of its database.

Loading: the same step is fed with a batch in memory, by our threads from a database, and by timm's create_loader with
processes from a folder; both read, decode, crop and flip the same pictures, with machine.workers workers. "as
params.yaml" has its augmentation besides. Shown are images per second, percent of those of the batch in memory, and
the percent of the time in which the step waited for its batch.

Splits: an epoch with each split of the cores into machine.threads and machine.workers, in a process of its own. The
processes take turns, round by round.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import islice, product, repeat
from multiprocessing import get_context
from os import sched_getaffinity
from pathlib import Path
from statistics import median

import torch
from timm.data import ImageDataset, create_loader
from torch import Tensor

from imagedb import ImageDatabase, decode_image, write_database
from imagedb.sources.folder import FolderSource
from models import create_model
from stages.cli import runs_folder
from stages.databases import open_database, training_batches
from stages.machine import execution, prepare
from stages.params import Machine, Params, load_params
from training.data import Batch, Pixels, TrainingBatches
from training.losses import label_loss
from training.recipe import Augmentation
from training.step import TrainingStep
from training.views import random_views

STEPS = 30  # of a turn, or as many as an epoch has
