"""Validation of one form of the model on the whole validation split: metrics/<step>.json.

python -m stages.validate --step int
python -m stages.validate --step qat --checkpoint artifacts/qat/last.safetensors   (prints, writes no metrics)
"""

import argparse
import json

from tqdm import tqdm

from stages.cli import run, write_json
from stages.databases import plain_batches
from stages.forms import load_form
from stages.machine import prepare
from stages.model_files import FILES
from stages.params import load_params
from training.augment import normalize
from training.score import predict, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", required=True, choices=FILES)
    parser.add_argument("--checkpoint", help="default: the pipeline's file of that step")
    arguments = parser.parse_args()
    params = load_params()
    device = prepare(params.machine)
    logits_of = load_form(arguments.step, arguments.checkpoint, device, params)
    batches = tqdm(plain_batches(params), desc=arguments.step, unit="batch", leave=False, disable=None)
    scores = score(*predict(lambda pixels: logits_of(normalize(pixels.to(device))), batches))
    print(json.dumps(scores))
    if arguments.checkpoint is None:
        write_json(f"metrics/{arguments.step}.json", scores)


if __name__ == "__main__":
    run(main)
