"""The time that transformers takes for the work of `koan bench generate`.

    python generate_transformers.py MODEL_DIR --dtype f32 [--sequences 64] [--group 1] [--prompt-tokens 45]
                                    [--new-tokens 64] [--runs 3] [--threads 2]

Random prompts of equal length (no padding), sampling at temperature 1 from the whole distribution, no early end. With
`--group` the completions of a prompt stand in one batch as copies of it, as `num_return_sequences` makes them. Prints one
JSON object; `cpu_s` counts the processor's seconds, which a busy machine does not change.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import transformers
from transformers import AutoModelForCausalLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--group", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=45)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model_dir, dtype=dtype).eval()
    seconds, cpu_seconds = [], []
    for _ in range(args.runs):
        prompts = torch.randint(3, model.config.vocab_size, (-(-args.sequences // args.group), args.prompt_tokens))
        ids = prompts.repeat_interleave(args.group, 0)[: args.sequences]
        start, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                min_new_tokens=args.new_tokens,
                max_new_tokens=args.new_tokens,
            )
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu)
        assert out.shape[1] == args.prompt_tokens + args.new_tokens, "a completion ended early"
    run_s = statistics.median(seconds)
    shape = {k: getattr(args, k) for k in ["sequences", "group", "prompt_tokens", "new_tokens"]}
    print(
        json.dumps(
            {
                "software": f"transformers {transformers.__version__}, torch {torch.__version__}",
                "dtype": args.dtype,
                "threads": args.threads,
                "shape": shape,
                "runs": seconds,
                "run_s": run_s,
                "cpu_s": statistics.median(cpu_seconds),
                "tokens_per_s": args.sequences * args.new_tokens / run_s,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
