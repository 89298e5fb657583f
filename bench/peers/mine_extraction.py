"""How much of a labelled crawl's pages extractors keep: Koan's, resiliparse and trafilatura on the same pages in one run.

    cargo build --release -p koan-mine --example extract
    python3 bench/peers/mine_extraction.py CRAWL NORMAL --koan target/release/examples/extract [--peers resiliparse,trafilatura]

CRAWL holds WARC files and `truth/pages.jsonl`: one object a page with `file`, `offset`, `length` of its record, `expected` (pages that
are `skip` are left out), and lists of what must come out (`formulas` in LaTeX, `must`, a `probe` of the charset) and what must not
(`forbidden`, `hidden`), `markup`, `language`. NORMAL is a folder with `latexnorm.py`, which brings formulas to one form
(`page_index(text)`, `find(index, tex)`, `long_enough(tex)`).

Rates are per CPU second of one core. Needs `resiliparse trafilatura lxml_html_clean brotli` (pip) for the peers.
"""
import argparse
import collections
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zlib


def dechunk(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        try:
            size = int(size.split(b";")[0], 16)
        except ValueError:
            return out
        if size == 0:
            break
        out, body = out + body[:size], body[size + 2:]
    return out


def decoded(body, encoding):
    """The body without its content encoding; as it is where the header lies."""
    try:
        if encoding == "gzip":
            return gzip.decompress(body)
        if encoding == "deflate":
            try:
                return zlib.decompress(body)
            except zlib.error:
                return zlib.decompress(body, -15)
        if encoding == "br":
            import brotli

            return brotli.decompress(body)
    except Exception:
        pass
    return body


def pages(crawl):
    """Every labelled page: its truth, its bytes, its Content-Type."""
    files = {}
    for line in open(os.path.join(crawl, "truth", "pages.jsonl"), encoding="utf8"):
        truth = json.loads(line)
        if truth["expected"] == "skip":
            continue
        name = truth["file"]
        if name not in files:
            files[name] = open(os.path.join(crawl, name), "rb").read()
        record = files[name][truth["offset"]:truth["offset"] + truth["length"]]
        if record[:2] == b"\x1f\x8b":
            record = zlib.decompressobj(31).decompress(record)
        head, _, rest = record.partition(b"\r\n\r\n")
        if b"WARC-Type: response" not in head:
            continue
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        http, _, body = rest[:length].partition(b"\r\n\r\n")
        headers = {}
        for line in http.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            headers[key.strip().lower().decode("latin1")] = value.strip().decode("latin1")
        if "chunked" in headers.get("transfer-encoding", ""):
            body = dechunk(body)
        yield truth, decoded(body, headers.get("content-encoding", "")), headers.get("content-type")


def koan(binary, items):
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for at, (_, body, content_type) in enumerate(items):
            path = os.path.join(folder, f"{at:07}.html")
            open(path, "wb").write(body)
            if content_type:
                open(path + ".type", "w").write(content_type)
            names.append(path)
        out = os.path.join(folder, "out")
        texts, languages, seconds = [], [], 0.0
        for start in range(0, len(names), 2000):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([binary, out, *names[start:start + 2000]], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            # With reading and writing a file for each page.
            seconds += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            for line in open(os.path.join(out, "pages.jsonl"), encoding="utf8"):
                page = json.loads(line)
                path = os.path.join(out, page["name"] + ".txt")
                texts.append(open(path, encoding="utf8").read() if "skip" not in page else "")
                languages.append(page.get("language"))
        return texts, languages, seconds


def resiliparse(items):
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree

    def extract(body):
        return extract_plain_text(HTMLTree.parse_from_bytes(body, detect_encoding(body)), main_content=True, alt_texts=True)

    return timed(extract, items)


def trafilatura(items):
    from trafilatura import extract

    return timed(lambda body: extract(body, include_comments=True), items)


def timed(extract, items):
    texts, start = [], time.process_time()
    for _, body, _ in items:
        try:
            texts.append(extract(body) or "")
        except Exception:
            texts.append("")
    return texts, [None] * len(texts), time.process_time() - start


def mark(name, items, texts, languages, seconds, norm):
    formulas = collections.defaultdict(lambda: [0, 0])
    sums = {key: [0, 0] for key in ("sentences kept", "boilerplate leaked", "hidden leaked", "charset probes right", "languages right")}

    def count(key, right):
        sums[key][0] += bool(right)
        sums[key][1] += 1

    for (truth, _, _), text, language in zip(items, texts, languages):
        flat, index = " ".join(text.split()), norm.page_index(text)
        if truth.get("special") != "truncated":
            for tex in filter(norm.long_enough, truth["formulas"]):
                formulas[truth["markup"]][0] += norm.find(index, tex) > 0
                formulas[truth["markup"]][1] += 1
            for sentence in truth["must"]:
                count("sentences kept", sentence in flat)
            if truth["probe"]:
                count("charset probes right", truth["probe"] in flat)
        for line in truth["forbidden"]:
            count("boilerplate leaked", line in flat)
        for line in truth["hidden"]:
            count("hidden leaked", line in flat)
        if language:
            count("languages right", language == truth["language"])
    size = sum(len(body) for _, body, _ in items)
    kept, total = (sum(values[at] for values in formulas.values()) for at in (0, 1))
    print(f"{name}: {len(items) / seconds:.0f} pages/s, {size / 1e6 / seconds:.1f} MB/s; formulas {kept}/{total} {kept / max(total, 1):.4f}")
    for key, (right, of) in sums.items():
        if of:
            print(f"  {key}: {right}/{of} {right / of:.4f}")
    print("  formulas by markup: " + ", ".join(f"{key} {right / of:.3f}" for key, (right, of) in sorted(formulas.items(), key=lambda item: str(item[0]))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crawl")
    parser.add_argument("normal")
    parser.add_argument("--koan", required=True)
    parser.add_argument("--peers", default="resiliparse,trafilatura")
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.normal)
    import latexnorm

    # resiliparse's tree is quadratic in nesting: minutes a page.
    items = [item for item in pages(arguments.crawl) if item[0].get("special") != "deep"]
    mark("koan", items, *koan(arguments.koan, items), latexnorm)
    for name in filter(None, arguments.peers.split(",")):
        mark(name, items, *globals()[name](items), latexnorm)


if __name__ == "__main__":
    main()
