#!/usr/bin/env python3
"""How fast datatrove and datasketch sign texts for near-duplicates, beside Koan's example in the same run.

    cargo build --release -p koan-mine --example mine_sign
    python3 mine_signatures.py TEXTS.jsonl --koan target/release/examples/mine_sign [--megabytes 5]

TEXTS.jsonl has rows with `text`. All make 112 min-hashes of word 5-grams. Words are split at blanks for the peers, the cheapest way: the
tokenizers that datatrove takes by default are slower. MB of text per CPU second, user and system.
"""
import argparse
import json
import subprocess
import time


def datatrove():
    import datatrove.pipeline.dedup.minhash as minhash

    class Split:
        def word_tokenize(self, text):
            return text.split()

    minhash.load_word_tokenizer = lambda language: Split()
    step = minhash.MinhashDedupSignature(output_folder="mine-signatures")
    return lambda text: step.get_signature(step.get_shingles(text))


def datasketch():
    from datasketch import MinHash

    def sign(text):
        words = text.lower().split()
        hashes = MinHash(num_perm=112)
        hashes.update_batch([" ".join(words[i : i + 5]).encode() for i in range(max(len(words) - 4, 1))])
        return hashes

    return sign


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("texts")
    parser.add_argument("--koan", required=True, help="the example mine_sign")
    parser.add_argument("--megabytes", type=float, default=5, help="of the texts that the peers sign")
    arguments = parser.parse_args()
    print(subprocess.run([arguments.koan, "--times", "5", arguments.texts], check=True, capture_output=True, text=True).stdout.strip())
    texts, size = [], 0
    with open(arguments.texts, encoding="utf8") as rows:
        for row in rows:
            texts.append(json.loads(row)["text"])
            size += len(texts[-1].encode())
            if size > arguments.megabytes * 1e6:
                break
    for name, make in (("datatrove", datatrove), ("datasketch", datasketch)):
        sign = make()
        sign(texts[0])
        begin = time.process_time()
        for text in texts:
            sign(text)
        seconds = time.process_time() - begin
        print(f"{name}: {len(texts)} texts, {size / 1e6:.1f} MB; {seconds:.3f} CPU seconds: {size / 1e6 / seconds:.1f} MB a second")


if __name__ == "__main__":
    main()
