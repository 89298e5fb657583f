"""The time that llama.cpp takes for the work of `koan bench generate`, through its C interface.

    pip install llama-cpp-python          # builds llama.cpp for this processor
    koan model export MODEL_DIR --gguf model.gguf --type bf16
    python generate_llama_cpp.py model.gguf [--sequences 64] [--group 1] [--prompt-tokens 45] [--new-tokens 64]
                                 [--runs 3] [--threads 2]

Random prompts, all sequences in one batch, drawing at temperature 1 from the whole distribution, no early end. With
`--group` a prompt is computed once and its cache shared by its completions. Prints one JSON object; `cpu_s` counts the
processor's seconds, which a busy machine does not change.
"""

import argparse
import ctypes
import json
import os
import random
import resource
import statistics
import time

import llama_cpp as llama


def fill(batch, rows):
    """Puts (token, position, sequences, wants logits) rows into the batch."""
    batch.n_tokens = len(rows)
    for i, (token, position, sequences, logits) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
        batch.n_seq_id[i] = len(sequences)
        for j, sequence in enumerate(sequences):
            batch.seq_id[i][j] = sequence


def decode(context, batch):
    if llama.llama_decode(context, batch) != 0:
        raise SystemExit("llama_decode failed")


def run(context, sampler, batch, vocab, args):
    memory = llama.llama_get_memory(context)
    llama.llama_memory_clear(memory, True)
    prompts = -(-args.sequences // args.group)
    of_prompt = [list(range(p * args.group, min((p + 1) * args.group, args.sequences))) for p in range(prompts)]
    start, cpu = time.perf_counter(), time.process_time()
    tokens = [0] * args.sequences
    for sequences in of_prompt:
        ids = [random.randrange(3, vocab) for _ in range(args.prompt_tokens)]
        last = len(ids) - 1
        fill(batch, [(token, at, sequences[:1], at == last) for at, token in enumerate(ids)])
        decode(context, batch)
        for sequence in sequences[1:]:
            llama.llama_memory_seq_cp(memory, sequences[0], sequence, 0, -1)
        for sequence in sequences:
            tokens[sequence] = llama.llama_sampler_sample(sampler, context, last)
    for step in range(1, args.new_tokens):
        at = args.prompt_tokens + step - 1
        fill(batch, [(token, at, [sequence], True) for sequence, token in enumerate(tokens)])
        decode(context, batch)
        tokens = [llama.llama_sampler_sample(sampler, context, i) for i in range(args.sequences)]
    return time.perf_counter() - start, time.process_time() - cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--group", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=45)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(args.gguf.encode(), llama.llama_model_default_params())
    if not model:
        raise SystemExit(f"cannot load {args.gguf}")
    params = llama.llama_context_default_params()
    params.n_ctx = args.sequences * (args.prompt_tokens + args.new_tokens + 1)
    params.n_batch = params.n_ubatch = max(args.sequences, args.prompt_tokens, 512)
    params.n_seq_max = args.sequences
    params.n_threads = params.n_threads_batch = args.threads
    params.kv_unified = True  # one cache, so that sequences can share a prompt's cells
    context = llama.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("no context")
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    sampler = llama.llama_sampler_init_dist(0)
    batch = llama.llama_batch_init(params.n_batch, 0, max(args.sequences, 1))
    random.seed(0)
    times = [run(context, sampler, batch, vocab, args) for _ in range(args.runs)]
    run_s = statistics.median(seconds for seconds, _ in times)
    print(json.dumps({
        "software": f"llama-cpp-python {llama.__version__}",
        "file": os.path.basename(args.gguf),
        "system": llama.llama_print_system_info().decode(),
        "threads": args.threads,
        "shape": {k: getattr(args, k) for k in ["sequences", "group", "prompt_tokens", "new_tokens"]},
        "runs": [round(seconds, 3) for seconds, _ in times],
        "run_s": run_s,
        "cpu_s": statistics.median(cpu for _, cpu in times),
        "tokens_per_s": args.sequences * args.new_tokens / run_s,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))


if __name__ == "__main__":
    main()
