"""Time GRPO steps of TRL's GRPOTrainer on the CPU.

Usage: python trl_grpo_step.py MODEL_DIR [--dtype f32|bf16] [--steps 3] [--threads 2]
                               [--problems 8] [--group 8] [--micro-batch 8]

One step: sample a group of completions for each problem (prompts of exactly 45
tokens, completions of exactly 64, temperature 1), then one AdamW step over all
of them (beta 0, no gradient checkpointing, micro-batches with accumulation).
The reward is random, so advantages are non-zero and don't depend on the text.
--dtype is that of the weights, in sampling and in training; bf16 also turns on
autocast, as TRL's own default does.

Prints one JSON line: seconds of each step (generation, training, total), the
process's CPU seconds for each step, the medians without the first step, and the
load average, which tells whether the machine was quiet (for one busy process
with N threads it tends towards N).
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
from trl import GRPOConfig, GRPOTrainer

PROMPT_TOKENS = 45
NEW_TOKENS = 64
TEXT = (
    "A farmer has {} apples and picks {} more from the old trees behind the house. "
    "His neighbour brings him a basket of ripe pears and asks how many pieces of fruit they "
    "have together before they walk to the market in the morning. Think about it and answer."
)


def make_prompt(tokenizer, number):
    """A plain text of exactly PROMPT_TOKENS tokens."""
    ids = tokenizer(TEXT.format(number + 11, number + 32))["input_ids"][:PROMPT_TOKENS]
    text = tokenizer.decode(ids)
    assert len(tokenizer(text)["input_ids"]) == PROMPT_TOKENS, text
    return text


def reward(completions, completion_ids, **_):
    assert all(len(ids) == NEW_TOKENS for ids in completion_ids)
    return [random.random() for _ in completions]


class TimedTrainer(GRPOTrainer):
    generation_seconds = 0.0

    def _generate_single_turn(self, *args, **kwargs):
        start = time.perf_counter()
        result = super()._generate_single_turn(*args, **kwargs)
        self.generation_seconds += time.perf_counter() - start
        return result


class StepTimer(TrainerCallback):
    def __init__(self):
        self.trainer = None
        self.steps = []

    def on_step_begin(self, *_, **__):
        self.trainer.generation_seconds = 0.0
        self.cpu = time.process_time()
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        total = time.perf_counter() - self.start
        generation = self.trainer.generation_seconds
        self.steps.append({
            "generation": round(generation, 3),
            "training": round(total - generation, 3),
            "total": round(total, 3),
            "cpu": round(time.process_time() - self.cpu, 3),
        })


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=8)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    random.seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    prompts = [make_prompt(tokenizer, n) for n in range(args.problems)]
    batch = args.problems * args.group
    with tempfile.TemporaryDirectory() as output_dir:
        config = GRPOConfig(
            output_dir=output_dir,
            use_cpu=True,
            bf16=args.dtype == "bf16",
            model_init_kwargs={"dtype": "bfloat16" if args.dtype == "bf16" else "float32"},
            max_steps=args.steps,
            per_device_train_batch_size=args.micro_batch,
            gradient_accumulation_steps=batch // args.micro_batch,
            generation_batch_size=batch,
            num_generations=args.group,
            num_iterations=1,
            max_completion_length=NEW_TOKENS,
            generation_kwargs={"min_new_tokens": NEW_TOKENS},
            temperature=1.0,
            beta=0.0,
            learning_rate=1e-6,
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            use_vllm=False,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        timer = StepTimer()
        trainer = TimedTrainer(
            model=args.model_dir,
            processing_class=tokenizer,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            callbacks=[timer],
        )
        timer.trainer = trainer
        trainer.train()

    counted = timer.steps[1:] or timer.steps
    print(json.dumps({
        "dtype": args.dtype,
        "threads": args.threads,
        "problems": args.problems,
        "group": args.group,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "micro_batch": args.micro_batch,
        "steps": timer.steps,
        "median_without_first": {
            key: round(statistics.median(step[key] for step in counted), 3) for key in counted[0]
        },
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "load_average": os.getloadavg()[0],
    }))


if __name__ == "__main__":
    main()
