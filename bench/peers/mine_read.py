#!/usr/bin/env python3
"""How fast FastWARC reads a crawl, beside Koan's reader in the same run.

    cargo build --release -p koan-mine --example mine_read
    python3 mine_read.py --koan target/release/examples/mine_read FILE.warc.gz...

Records per CPU second of one thread, the best of several passes in turns. FastWARC as it is fastest (no HTTP heads), and with heads and
chunks; Koan's reader always does these, and content encodings too, at which FastWARC stops where one is declared falsely.
"""
import argparse
import subprocess
import time


def fastwarc(files, http):
    from fastwarc.warc import ArchiveIterator

    records, begin = 0, time.process_time()
    for path in files:
        for record in ArchiveIterator(path, parse_http=http, auto_decode="transfer" if http else "none"):
            records += 1
            record.reader.read()
    return records, time.process_time() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--koan", required=True, help="the example mine_read")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    best = {}
    for _ in range(arguments.times):
        said = subprocess.run([arguments.koan, *arguments.files], check=True, capture_output=True, text=True).stdout
        records, seconds = int(said.split()[0]), float(said.split(";")[1].split()[0])
        for name, (n, took) in {
            "koan": (records, seconds),
            "FastWARC, no HTTP": fastwarc(arguments.files, False),
            "FastWARC, HTTP heads and chunks": fastwarc(arguments.files, True),
        }.items():
            best[name] = max(best.get(name, (0, 0)), (n / took, n))
    for name, (rate, n) in best.items():
        print(f"{name}: {n} records, {rate:.0f} a CPU second")


if __name__ == "__main__":
    main()
