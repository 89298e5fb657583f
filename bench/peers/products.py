"""Matrix products at the shapes of a model's layers in PyTorch: forward, backward to the input, to the weight.

    python products.py CONFIG.json --rows 2048 --dtype f32|bf16 [--repeats 5] [--threads 2]

The work of `koan bench product`. Prints one JSON object.
"""

import argparse
import json
import statistics
import time
from collections import Counter

import torch


def shapes(config: dict) -> Counter:
    """`(out_features, in_features)` of every matrix that is multiplied by, and how often it stands in the model."""
    hidden, ffn, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    dim = config.get("head_dim") or hidden // heads
    query, key = heads * dim, (config.get("num_key_value_heads") or heads) * dim
    matrices = [(query, hidden), (key, hidden), (key, hidden), (hidden, query), (ffn, hidden), (ffn, hidden), (hidden, ffn)]
    counts = Counter({shape: 0 for shape in matrices})
    for shape in matrices:
        counts[shape] += layers
    counts[(config["vocab_size"], hidden)] += 1
    return counts


def median_seconds(work, repeats: int) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="a Hugging Face config.json")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    with open(args.config, encoding="utf-8") as file:
        config = json.load(file)
    operations = seconds = 0.0
    products = []
    for (out, inp), times in sorted(shapes(config).items()):
        w, x, dy = (torch.rand(n, m).sub_(0.5).to(dtype) for n, m in [(out, inp), (args.rows, inp), (args.rows, out)])
        for product, work in [
            ("forward", lambda: x @ w.T),
            ("backward_input", lambda: dy @ w),
            ("backward_weight", lambda: dy.T @ x),
        ]:
            s = median_seconds(work, args.repeats)
            flop = 2.0 * args.rows * out * inp
            operations, seconds = operations + times * flop, seconds + times * s
            products.append({"product": product, "out_features": out, "in_features": inp, "times": times,
                             "seconds": s, "gflops": flop / s / 1e9})
    print(json.dumps({"software": f"torch {torch.__version__}", "dtype": args.dtype, "threads": args.threads,
                      "rows": args.rows, "products": products, "gflops": operations / seconds / 1e9}))


if __name__ == "__main__":
    main()
