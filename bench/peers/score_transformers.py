"""Loads a model with transformers and scores one short text: the work of `koan score` with one line, from process start.

    time python score_transformers.py MODEL_DIR --dtype f32

Prints one JSON object: the log-probability of the completion, and the seconds since the process began.
"""

import argparse
import json
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--completion", default=" Paris.")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    model = AutoModelForCausalLM.from_pretrained(args.model_dir, dtype=dtype).eval()
    prompt = tokenizer(args.prompt, add_special_tokens=False)["input_ids"]
    completion = tokenizer(args.completion, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([prompt + completion])
    with torch.inference_mode():
        log_probs = torch.log_softmax(model(ids).logits[0, len(prompt) - 1 : -1].float(), dim=-1)
    log_prob = log_probs.gather(1, torch.tensor(completion)[:, None]).sum().item()
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - process_start()
    print(json.dumps({"log_prob": log_prob, "seconds": seconds, "dtype": args.dtype, "threads": args.threads}))


def process_start() -> float:
    """Seconds from boot to this process's start, from field 22 of its stat file, in ticks of 10 ms."""
    with open("/proc/self/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19]) / 100


if __name__ == "__main__":
    main()
