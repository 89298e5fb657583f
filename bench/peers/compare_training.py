"""Koan and PyTorch side by side: a training step, and its matrix products; one table of ratios.

    python compare_training.py KOAN CONFIG.json --sequences 64 --tokens 64 [--steps 3] [--dtypes f32,bf16,mixed]
                               [--compile] [--isa avx2]

Both run one after the other, each alone, in one session; figures are medians. `--isa` forces Koan's instruction set and
limits PyTorch's to the same (oneDNN's and ATen's own switches).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
# Instruction set: what holds oneDNN and ATen to it.
LIMITS = {"avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
          "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}}


def run(command: list, environment: dict) -> dict | None:
    """The JSON object that `command` prints last; nothing, with its last words shown, where it fails."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"failed: {' '.join(command)}\n{done.stderr[-500:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("koan", help="the program")
    parser.add_argument("config", help="a Hugging Face config.json")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dtypes", default="f32,bf16,mixed", help="what PyTorch runs in")
    parser.add_argument("--compile", action="store_true", help="also run torch.compile in each")
    parser.add_argument("--isa", choices=list(LIMITS), help="hold both to an instruction set")
    parser.add_argument("--products", action="store_true", help="also time the matrix products alone")
    args = parser.parse_args()

    limits = LIMITS.get(args.isa, {})
    shape = ["--sequences", str(args.sequences), "--tokens", str(args.tokens), "--steps", str(args.steps)]
    ours = {"KOAN_ISA": args.isa} if args.isa else {}
    koan = run([args.koan, "bench", "train", "--config", args.config, *shape, "--json"], ours)
    if koan is None:
        sys.exit(1)
    rows = [(f"koan, {koan['isa']}", koan)]
    for dtype in args.dtypes.split(","):
        for compiled in [False, True] if args.compile else [False]:
            command = [sys.executable, str(HERE / "train_step.py"), args.config, *shape, "--dtype", dtype]
            result = run(command + ["--compile"] * compiled, limits)
            if result:
                rows.append((f"torch, {dtype}{', compiled' if compiled else ''}", result))
    print("| training step | s | tokens/s | peak, GB | koan is faster by |")
    print("|---|---|---|---|---|")
    for name, r in rows:
        ratio = koan["tokens_per_s"] / r["tokens_per_s"]
        print(f"| {name} | {r['step_s']:.2f} | {r['tokens_per_s']:.0f} | {r['peak_memory_bytes'] / 1e9:.2f} | {ratio:.2f} × |")

    if args.products:
        tokens = str(min(args.sequences * args.tokens, 2048))
        koan = run([args.koan, "bench", "product", "--config", args.config, "--rows", tokens, "--json"], ours)
        print(f"\n| products, {tokens} rows | GFLOP/s | koan is faster by |")
        print("|---|---|---|")
        print(f"| koan, {koan['isa']} | {koan['gflops']:.0f} | |")
        for dtype in ["f32", "bf16"]:
            command = [sys.executable, str(HERE / "products.py"), args.config, "--rows", tokens, "--dtype", dtype]
            r = run(command, limits)
            if r:
                print(f"| torch, {dtype} | {r['gflops']:.0f} | {koan['gflops'] / r['gflops']:.2f} × |")


if __name__ == "__main__":
    main()
