"""Time DPO steps of TRL's DPOTrainer on the CPU, the work of `koan bench prefer`.

Usage: python trl_dpo_step.py MODEL_DIR [--dtype f32|bf16] [--steps 5] [--threads 2]
                              [--pairs 8] [--prompt 64] [--reply 128] [--micro-batch 8]

One step: AdamW over --pairs pairs of random replies of exactly --reply tokens to
prompts of exactly --prompt tokens, beta 0.1, no gradient checkpointing. What the
reference policy says is computed before the first step
(`precompute_ref_log_probs`), which is not timed. --dtype is that of the weights;
bf16 also turns on autocast, as TRL's own default does.

Prints one JSON line: seconds of each step, the median without the first, the
peak memory of the process, and the load average.
"""

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


class Tokenized(DPOTrainer):
    """The rows are token ids already."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


class StepTimer(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.steps.append(round(time.perf_counter() - self.start, 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--reply", type=int, default=128)
    parser.add_argument("--micro-batch", type=int, default=8)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    random.seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    # Ordinary tokens: special ones could be taken for padding.
    ids = lambda n: [random.randrange(1000, 40000) for _ in range(n)]
    rows = [
        {"prompt_ids": ids(args.prompt), "chosen_ids": ids(args.reply), "rejected_ids": ids(args.reply)}
        for _ in range(args.pairs * (args.steps + 1))
    ]
    with tempfile.TemporaryDirectory() as output_dir:
        config = DPOConfig(
            output_dir=output_dir,
            use_cpu=True,
            bf16=args.dtype == "bf16",
            model_init_kwargs={"dtype": "bfloat16" if args.dtype == "bf16" else "float32"},
            max_steps=args.steps + 1,
            per_device_train_batch_size=args.micro_batch,
            gradient_accumulation_steps=args.pairs // args.micro_batch,
            precompute_ref_log_probs=True,
            gradient_checkpointing=False,
            max_length=args.prompt + args.reply,
            learning_rate=1e-6,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        timer = StepTimer()
        trainer = Tokenized(
            model=args.model_dir,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[timer],
        )
        trainer.train()
    print(json.dumps({
        "peer": "trl", "work": "dpo step", "dtype": args.dtype, "threads": args.threads,
        "pairs": args.pairs, "prompt": args.prompt, "reply": args.reply, "micro_batch": args.micro_batch,
        "seconds": timer.steps, "median_s": statistics.median(timer.steps[1:]),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "load_average": os.getloadavg()[0],
    }))


if __name__ == "__main__":
    main()
