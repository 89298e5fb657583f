"""Train SmolLM2 on Koan's arithmetic problems with TRL's GRPOTrainer: recipes/smollm2-arithmetic.toml, step for step.

Usage: python trl_arithmetic.py MODEL_DIR TRAIN.jsonl OUT_DIR [--steps 20] [--save-every 10] [--threads 2]

The same problems, chat template, group size, temperature, length, AdamW, clipping and schedule as the recipe, the
same formula (loss_type "grpo", beta 0), the same number of samples per step, f32. The order of the problems and the
random numbers are TRL's. The reward is 1 where the last number of the completion is the answer, as Koan's `number`
verifier has it.

Saves a model every --save-every steps (OUT_DIR/checkpoint-N); judge each with the same program as Koan's own:

    koan eval --model OUT_DIR/checkpoint-20 --data data/arithmetic-held-out.jsonl --temperature 0 --max-new-tokens 16

Prints one JSON line a step (mean reward and seconds since the first step's start).
"""

import argparse
import json
import re
import time

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

PROBLEMS, GROUP, NEW_TOKENS = 16, 16, 16
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def reward(completions, answer, **_):
    scores = []
    for completion, expected in zip(completions, answer):
        numbers = NUMBER.findall(completion[0]["content"].replace(",", ""))
        scores.append(float(bool(numbers) and float(numbers[-1]) == float(expected)))
    return scores


class Progress(TrainerCallback):
    start = None

    def on_step_begin(self, *_, **__):
        self.start = self.start or time.perf_counter()

    def on_log(self, _args, state, _control, logs, **__):
        if "reward" in logs:
            seconds = round(time.perf_counter() - self.start, 1)
            print(json.dumps({"step": state.global_step, "reward": logs["reward"], "seconds": seconds}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("train")
    parser.add_argument("out_dir")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save-every", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    with open(args.train) as lines:
        problems = [json.loads(line) for line in lines]
    data = Dataset.from_list([
        {"prompt": [{"role": "user", "content": problem["prompt"]}], "answer": problem["answer"]} for problem in problems
    ])
    config = GRPOConfig(
        output_dir=args.out_dir,
        use_cpu=True,
        bf16=False,
        model_init_kwargs={"dtype": "float32"},
        max_steps=args.steps,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=PROBLEMS * GROUP // 32,
        generation_batch_size=PROBLEMS * GROUP,
        num_generations=GROUP,
        num_iterations=1,
        max_completion_length=NEW_TOKENS,
        temperature=1.0,
        beta=0.0,
        loss_type="grpo",
        learning_rate=2e-5,
        lr_scheduler_type="linear",
        warmup_steps=5,
        adam_beta1=0.9,
        adam_beta2=0.999,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        gradient_checkpointing=False,
        use_vllm=False,
        report_to="none",
        logging_steps=1,
        save_strategy="steps",
        save_steps=args.save_every,
        save_only_model=True,
        eval_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    GRPOTrainer(
        model=args.model_dir,
        reward_funcs=reward,
        args=config,
        train_dataset=data,
        callbacks=[Progress()],
    ).train()


if __name__ == "__main__":
    main()
