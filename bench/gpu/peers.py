"""PyTorch on the GPU, on the work of `bench/gpu/run.sh`: products, training steps, generation. Random weights.

    python peers.py [--device cuda:0] [--only products,train,generate]

Prints one JSON object; a table goes to standard error. Products through torch.matmul in bf16; training as most people run it: f32
weights, autocast to bf16, fused AdamW, clipping, without torch.compile; generation by transformers, in bf16.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PRODUCTS = [(16384, 3072, 1024), (8192, 1536, 576), (4096, 151936, 1024), (64, 3072, 1024), (256, 3072, 1024), (8192, 8192, 8192)]
TRAIN = [("smollm2-135m", 16, 1024), ("smollm2-135m", 64, 109), ("qwen3-0.6b", 8, 1024)]
GENERATE = [("smollm2-135m", 64, 45), ("smollm2-135m", 512, 45), ("qwen3-0.6b", 64, 128)]


def seconds(work, repeats=10) -> float:
    """The median; short work is done several times between two waits."""

    def run(times):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / times

    run(1)
    times = int(max(1, min(1000, 0.005 / run(1))))
    return statistics.median(run(times) for _ in range(repeats))


def products(device) -> list:
    rows = []
    for n, out, inp in PRODUCTS:
        x, w, dy = (torch.randn(*s, device=device).bfloat16() for s in [(n, inp), (out, inp), (n, out)])
        works = {"forward": lambda: x @ w.T, "backward_input": lambda: dy @ w, "backward_weight": lambda: dy.T @ x}
        speeds = {name: 2e-12 * n * out * inp / seconds(work) for name, work in works.items()}
        rows.append({"rows": n, "out_features": out, "in_features": inp, "tflops": speeds})
        print(f"torch {n} x {out}x{inp}: " + ", ".join(f"{v:.0f}" for v in speeds.values()) + " TFLOP/s", file=sys.stderr)
    a, b = torch.empty(1 << 28, device=device), torch.empty(1 << 28, device=device)
    rows.append({"copy_gb_per_s": 2 * 4 * (1 << 28) / seconds(lambda: a.copy_(b)) / 1e9})
    print(f"torch copy: {rows[-1]['copy_gb_per_s']:.0f} GB/s", file=sys.stderr)
    return rows


def model_of(name, device, dtype):
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device(device):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(CONFIGS / f"{name}.json"), dtype=dtype)


def train(device) -> list:
    rows = []
    for name, sequences, tokens in TRAIN:
        torch.manual_seed(0)
        model = model_of(name, device, torch.float32).train()
        model.config.use_cache = False
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        ids = torch.randint(model.config.vocab_size, (sequences, tokens), device=device)

        def step():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", dtype=torch.bfloat16):
                loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        speed = sequences * tokens / seconds(step, 5)
        rows.append({"model": name, "sequences": sequences, "tokens": tokens, "tokens_per_s": speed})
        print(f"torch train {name} {sequences} x {tokens}: {speed:.0f} tokens/s", file=sys.stderr)
        del model, optimizer
        torch.cuda.empty_cache()
    return rows


def generate(device) -> list:
    rows = []
    for name, sequences, prompt in GENERATE:
        model = model_of(name, device, torch.bfloat16).eval()
        ids = torch.randint(3, model.config.vocab_size, (sequences, prompt), device=device)

        def run():
            with torch.inference_mode():
                model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, top_p=1.0,
                               temperature=1.0, min_new_tokens=64, max_new_tokens=64, pad_token_id=0)
            torch.cuda.synchronize()

        run()
        start = time.perf_counter()
        run()
        speed = sequences * 64 / (time.perf_counter() - start)
        rows.append({"model": name, "sequences": sequences, "prompt_tokens": prompt, "tokens_per_s": speed})
        print(f"transformers generate {name} {sequences} x {prompt} + 64: {speed:.0f} tokens/s", file=sys.stderr)
        del model
        torch.cuda.empty_cache()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--only", default="products,train,generate")
    args = parser.parse_args()
    result = {"software": f"torch {torch.__version__}", "card": torch.cuda.get_device_name(args.device)}
    for part in args.only.split(","):
        try:
            result[part] = {"products": products, "train": train, "generate": generate}[part](args.device)
        except (ImportError, RuntimeError) as error:
            result[part] = {"error": str(error)[:300]}
            print(f"{part}: {error}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
