"""Tokens per second, and the time to the first token, of a server with OpenAI's API: so many clients at once, each streaming.

    koan serve --model MODEL_DIR --sequences 64
    python serve_clients.py http://127.0.0.1:8000 [--clients 1 8 64] [--requests 64] [--prompt-words 48] [--new-tokens 64]

llama.cpp's server beside it, of the same machine and precision:

    llama-server -m model-bf16.gguf --port 8080 -np 64 -c 16384 -t 2
    python serve_clients.py http://127.0.0.1:8080

Prompts are random words, different for each request, so that nothing is cached; replies do not end early (`ignore_eos`). Prints a JSON
object for each number of clients. `--newcomers 8` measures something else: while all but one of the clients stream, eight come one after
another, and how many tokens the others get meanwhile, which is passes, is counted until each has its first. Needs nothing but Python.
"""

import argparse
import http.client
import json
import random
import statistics
import threading
import time
import urllib.parse

WORDS = "time year people way day man thing woman life child world school state family student group country problem hand part place case".split()


def ask(address, body):
    """Seconds to the first token and to the last, and how many there were."""
    connection = http.client.HTTPConnection(address, timeout=600)
    start = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {response.read().decode()[:300]}")
    first, usage = None, None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        if first is None and chunk.get("choices") and chunk["choices"][0].get("text"):
            first = time.perf_counter() - start
        usage = chunk.get("usage") or usage
    connection.close()
    return first, time.perf_counter() - start, usage["completion_tokens"]


def body_of(rng, i, args, new_tokens):
    return {
        "prompt": " ".join(rng.choice(WORDS) for _ in range(args.prompt_words)), "max_tokens": new_tokens, "temperature": 1,
        "seed": i, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
    }


def newcomers(address, clients, args):
    """Passes, and seconds, until those who come while `clients - 1` others stream have their first token."""
    rng = random.Random(0)
    counts, times, stop, lock = [0] * (clients - 1), [], threading.Event(), threading.Lock()

    def stream(i, body):
        connection = http.client.HTTPConnection(address, timeout=600)
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        while not stop.is_set():
            line = response.readline()
            if not line:
                break
            if line.startswith(b"data: {"):
                with lock:
                    counts[i] += len(json.loads(line[6:]).get("choices") or [])
                    if i == 0:
                        times.append(time.perf_counter())
        connection.close()

    bodies = [body_of(rng, i, args, args.long_tokens) for i in range(clients - 1)]
    threads = [threading.Thread(target=stream, args=pair, daemon=True) for pair in enumerate(bodies)]
    for thread in threads:
        thread.start()
    while any(count < 3 for count in counts):
        time.sleep(0.01)
    time.sleep(2)
    pass_s = statistics.median(b - a for a, b in zip(times, times[1:]))
    passes, seconds = [], []
    for i in range(args.newcomers):
        with lock:
            before = list(counts)
        first, _, _ = ask(address, body_of(rng, 1000 + i, args, 1))
        with lock:
            after = list(counts)
        seconds.append(first)
        passes.append(statistics.median(b - a for a, b in zip(before, after)))
    running = sum(thread.is_alive() for thread in threads)
    stop.set()
    return {
        "streaming": running, "pass_s": round(pass_s, 3), "passes_to_first_token": passes, "first_token_s": [round(s, 3) for s in seconds],
    }


def run(address, clients, args, seed):
    rng = random.Random(seed)
    total = max(args.requests, clients)
    bodies = [body_of(rng, i, args, args.new_tokens) for i in range(total)]
    done, lock = [], threading.Lock()

    def client():
        while True:
            with lock:
                if not bodies:
                    return
                body = bodies.pop()
            result = ask(address, body)
            with lock:
                done.append(result)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    tokens = sum(n for _, _, n in done)
    firsts = sorted(first for first, _, _ in done if first is not None)
    return {
        "clients": clients, "requests": total, "tokens": tokens, "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1), "first_token_s": round(statistics.median(firsts), 3),
        "first_token_p99_s": round(firsts[int(0.99 * (len(firsts) - 1))], 3),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt-words", type=int, default=60)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--newcomers", type=int, default=0)
    parser.add_argument("--long-tokens", type=int, default=160, help="of those who stream while others come")
    args = parser.parse_args()
    address = urllib.parse.urlsplit(args.url).netloc
    for clients in args.clients:
        if args.newcomers:
            print(json.dumps({"clients": clients, **newcomers(address, clients, args)}), flush=True)
            continue
        args_of_run = argparse.Namespace(**{**vars(args), "requests": min(args.requests, 8 * clients)})
        print(json.dumps(run(address, clients, args_of_run, seed=clients)), flush=True)


if __name__ == "__main__":
    main()
