"""So many clients at once on one `koan serve` for some minutes, each streaming answer after answer, some of them leaving in the middle.

    python serve_soak.py KOAN MODEL_DIR [--clients 1000] [--minutes 10] [--sequences 64]

It starts `KOAN serve` on this machine, with a queue that has a place for every client. What each answer must be is asked of `KOAN generate`
first, on a file of one line with the same seed. It fails if a whole answer is another, if one that nobody left does not come, or if the
server's memory grows by more than a tenth after the first quarter. Needs nothing but Python 3.11.
"""

import argparse
import asyncio
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import urllib.request

QUESTIONS = [
    "What is 7 times 8?", "Name a prime number above 10.", "Once upon a time", "The capital of France is", "Count from one to five.",
    "Why is the sky blue?",
]
SEEDS = [1, 2]
CHOICES = 4


def expected(args, folder):
    """The texts and ends of `koan generate` of each question under each seed."""
    answers = {}
    for number, question in enumerate(QUESTIONS):
        file = folder / "question.jsonl"
        file.write_text(json.dumps({"prompt": question}) + "\n")
        for seed in SEEDS:
            out = folder / f"{number}-{seed}.jsonl"
            command = [
                args.koan, "generate", "--model", args.model, "--input", str(file), "--out", str(out), "--seed", str(seed), "--n", str(CHOICES),
                "--max-new-tokens", str(args.new_tokens), "--temperature", "1",
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            line = json.loads(out.read_text())
            answers[number, seed] = [(one["text"], one["finish_reason"]) for one in line["completions"]]
    return answers


async def ask(args, number, seed, n, leave_after, key):
    """The texts and ends of the choices; none if the client left; what went wrong as a text."""
    body = json.dumps({
        "messages": [{"role": "user", "content": QUESTIONS[number]}], "seed": seed, "n": n, "max_tokens": args.new_tokens, "temperature": 1,
        "stream": True,
    })
    reader, writer = await asyncio.open_connection("127.0.0.1", args.port)
    try:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{args.port}\r\nauthorization: Bearer {key}\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        await writer.drain()
        if leave_after == 0:
            await asyncio.sleep(random.random() * 5)
            return None
        status = (await reader.readline()).decode()
        if " 200 " not in status:
            return f"status {status.strip()}"
        texts, ends, chunks = [""] * n, [None] * n, 0
        while line := await reader.readline():
            if line.startswith(b"data: [DONE]"):
                return list(zip(texts, ends))
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                return f"error {chunk['error']['message']}"
            for choice in chunk["choices"]:
                delta, at = choice["delta"], choice["index"]
                reasoning = delta.get("reasoning_content")
                if reasoning:
                    return "thinking, which these questions are not answered with"
                texts[at] += delta.get("content") or ""
                ends[at] = choice["finish_reason"] or ends[at]
            chunks += 1
            if leave_after is not None and chunks >= leave_after:
                return None
        return "the stream broke off"
    finally:
        writer.close()


async def client(args, i, answers, counts, end, wrong):
    rng = random.Random(i)
    await asyncio.sleep(rng.random() * 2)
    while time.monotonic() < end:
        number, seed, n = rng.randrange(len(QUESTIONS)), rng.choice(SEEDS), rng.choice([1, 1, 2, CHOICES])
        leave_after = rng.choice([0, 1, 3, 8]) if rng.random() < args.leaving else None
        try:
            got = await ask(args, number, seed, n, leave_after, f"key-{i % 10}")
        except OSError as error:
            got = f"{type(error).__name__}: {error}"
        if got is None:
            counts["left"] += 1
        elif isinstance(got, str):
            counts["failed"] += 1
            wrong.append(got)
        elif got == answers[number, seed][:n]:
            counts["whole"] += 1
            counts["choices"] += n
        else:
            counts["different"] += 1
            wrong.append(json.dumps({"question": QUESTIONS[number], "seed": seed, "got": got, "expected": answers[number, seed][:n]}))


def resident(pid):
    """MiB that a process holds."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def watch(pid, end, held):
    while time.monotonic() < end:
        held.append(resident(pid))
        await asyncio.sleep(2)


async def soak(args, answers, pid):
    counts, wrong, held = collections.Counter(), [], []
    end = time.monotonic() + 60 * args.minutes
    clients = [client(args, i, answers, counts, end, wrong) for i in range(args.clients)]
    await asyncio.gather(watch(pid, end, held), *clients)
    return counts, wrong, held


def wait(url, seconds):
    for _ in range(seconds):
        try:
            return urllib.request.urlopen(url, timeout=5).read().decode()
        except OSError:
            time.sleep(1)
    raise SystemExit(f"nobody answers at {url}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("koan")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--leaving", type=float, default=0.3, help="share of the requests whose client leaves before the end")
    parser.add_argument("--port", type=int, default=8177)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answers = expected(args, pathlib.Path(folder))
    command = [
        args.koan, "serve", "--model", args.model, "--port", str(args.port), "--context", "256", "--sequences", str(args.sequences),
        "--queue", str(2 * args.clients), "--timeout", "1800",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait(f"http://127.0.0.1:{args.port}/health", 120)
        counts, wrong, held = asyncio.run(soak(args, answers, server.pid))
        metrics = wait(f"http://127.0.0.1:{args.port}/metrics", 5)
    finally:
        server.terminate()
        server.wait(60)
    quarter = len(held) // 4
    early, late = max(held[: quarter + 1]), max(held[quarter:])
    idle = all(f"koan:{name}{{" not in line or line.endswith(" 0") for line in metrics.splitlines() for name in [
        "num_requests_running", "num_requests_waiting",
    ])
    summary = {
        "clients": args.clients, "minutes": args.minutes, **counts, "mib_first_quarter": round(early), "mib_after": round(late),
        "idle_at_end": idle,
    }
    print(json.dumps(summary))
    for what in wrong[:5]:
        print(what, file=sys.stderr)
    if wrong or not idle or counts["whole"] == 0 or late > 1.1 * early:
        raise SystemExit("it did not hold")


if __name__ == "__main__":
    main()
