"""The time of one training step in PyTorch + transformers: forward, loss, backward, clip, AdamW.

    python train_step.py CONFIG.json --sequences 64 --tokens 64 --steps 7 --dtype f32 [--compile] [--threads 2]

Random tokens, random weights, `labels = input_ids`. `--dtype`: `f32`; `bf16` (weights, gradients and moments all
bf16); `mixed` (f32 weights and moments, products under autocast to bf16). Prints one JSON object.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a Hugging Face config.json")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--dtype", choices=["f32", "bf16", "mixed"], default="f32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(args.config)
    config.use_cache = False
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)
    run = torch.compile(model) if args.compile else model
    ids = torch.randint(config.vocab_size, (args.sequences, args.tokens))

    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "mixed"):
            loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    step_s = statistics.median(seconds[1:])
    print(
        json.dumps(
            {
                "software": f"torch {torch.__version__}",
                "dtype": args.dtype,
                "compile": args.compile,
                "threads": args.threads,
                "parameters": parameters,
                "loss": loss.item(),
                "step_s": step_s,
                "tokens_per_s": args.sequences * args.tokens / step_s,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
