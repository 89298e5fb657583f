#!/usr/bin/env python3
"""Mine a labelled crawl by Koan and by public tools glued together, and say how good and how fast each is.

    python3 mine_pipeline.py CRAWL --train OTHER_CRAWL --norm FOLDER --tests 'FILE.jsonl ...' --koan ./koan

CRAWL and OTHER_CRAWL hold `crawl-*.warc.gz` and `truth/pages.jsonl`, a line a record: file, offset, url, expected (maths, other, skip),
is_maths, language, kind, cluster, variant, jaccard, planted, formulas, must, probe, forbidden, hidden. FOLDER holds `latexnorm.py`,
which compares formulas (`page_index`, `find`). The classifiers learn from OTHER_CRAWL. Peers: FastWARC, resiliparse or trafilatura,
fastText, datasketch, a 10-gram filter; `--peers ''` leaves them out. Times are CPU seconds, user and system.
"""
import argparse
import collections
import glob
import io
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time

TOKENS = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


def tokens(text):
    return TOKENS.findall(text.lower())


def grams(text, n):
    t = tokens(text)
    return {tuple(t[i : i + n]) for i in range(len(t) - n + 1)}


def truth_of(crawl):
    with open(os.path.join(crawl, "truth", "pages.jsonl"), encoding="utf8") as f:
        rows = [json.loads(line) for line in f]
    return {(row["file"], row["offset"]): row for row in rows}


def test_items(patterns):
    items = []
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            with open(path, encoding="utf8") as f:
                for line in f:
                    row = json.loads(line)
                    items.append(row.get("text") or row["prompt"])
    return items


# ------------------------------------------------------------------ Koan
def unpacked(path):
    import zstandard

    with open(path, "rb") as f:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(f), encoding="utf8"):
            yield json.loads(line)


def documents(pattern):
    found = {}
    for path in sorted(glob.glob(pattern)):
        for row in unpacked(path):
            found[(os.path.basename(row["source"]["file"]), row["source"]["offset"])] = row
    return found


def run(command):
    """CPU seconds and peak memory in MB of a command."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def koan_config(work, name, crawl, extra=""):
    path = os.path.join(work, name + ".toml")
    folder = os.path.join(work, name)
    shutil.rmtree(folder, ignore_errors=True)
    with open(path, "w") as f:
        f.write(f"input = [{json.dumps(os.path.join(crawl, 'crawl-*.warc.gz'))}]\nrun_dir = {json.dumps(folder)}\n{extra}")
    return path, folder


def koan(arguments, truth):
    """Texts of all pages, the corpora without and with a classifier, and what the second cost."""
    a = arguments
    run_verb, train_verb = shlex.split(a.run_verb or f"{a.koan} mine run"), shlex.split(a.train_verb or f"{a.koan} mine train")
    against = "" if not a.tests else f"[decontaminate]\nagainst = {json.dumps(a.tests)}\n"
    classifier = a.classifier
    if not classifier:
        config, folder = koan_config(a.work, "koan-learn", a.train)
        run(run_verb + [config])
        other = truth_of(a.train)
        names = [os.path.join(folder, name) for name in ("positives.jsonl", "negatives.jsonl")]
        with open(names[0], "w", encoding="utf8") as yes, open(names[1], "w", encoding="utf8") as no:
            for key, row in documents(os.path.join(folder, "corpus", "*.jsonl.zst")).items():
                out = yes if other[key]["is_maths"] else no
                out.write(json.dumps({"text": row["text"]}, ensure_ascii=False) + "\n")
        model = os.path.join(a.work, "koan-classifier")
        shutil.rmtree(model, ignore_errors=True)
        path = os.path.join(a.work, "train.toml")
        with open(path, "w") as f:
            f.write(f"run_dir = {json.dumps(model)}\n[train]\npositives = {json.dumps(names[0])}\nnegatives = {json.dumps(names[1])}\n[model]\ndim = 32\nbuckets = 65536\n")
        run(train_verb + [path])
        classifier = os.path.join(model, "classifier.bin")
    config, folder = koan_config(a.work, "koan-all", a.crawl, against + "[quality]\nenabled = false\n")
    run(run_verb + [config])
    texts = documents(os.path.join(folder, "pages", "*.jsonl.zst"))
    survivors = documents(os.path.join(folder, "corpus", "*.jsonl.zst"))
    config, folder = koan_config(a.work, "koan", a.crawl, against + f"[classifier]\nmodel = {json.dumps(classifier)}\n" + (f"threshold = {a.threshold}\n" if a.threshold else ""))
    cpu, memory = run(run_verb + [config])
    corpus = documents(os.path.join(folder, "corpus", "*.jsonl.zst"))
    with open(os.path.join(folder, "report.json"), encoding="utf8") as f:
        report = json.load(f)
    return dict(texts=texts, survivors=survivors, corpus=corpus, cpu=cpu, memory=memory, pages=report["pages"], html=report["page_bytes"])


# ------------------------------------------------------------------ public tools
def pages_of(crawl):
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    for path in sorted(glob.glob(os.path.join(crawl, "crawl-*.warc.gz"))):
        name = os.path.basename(path)
        for record in ArchiveIterator(open(path, "rb"), parse_http=True):
            if record.record_type != WarcRecordType.response:
                continue
            offset = record.stream_pos
            try:
                body = record.reader.read()
            except Exception:  # a content encoding that is declared falsely
                continue
            if record.http_headers is None or record.http_headers.status_code != 200 or b"%PDF" in body[:8]:
                continue
            if "html" not in (record.http_content_type or ""):
                continue
            yield (name, offset), record.headers.get("WARC-Target-URI"), decoded(record, body)


def decoded(record, body):
    import gzip
    import zlib

    import brotli

    encoding = (record.http_headers.get("Content-Encoding") or "").lower()
    try:
        return {"gzip": gzip.decompress, "deflate": zlib.decompress, "br": brotli.decompress}.get(encoding, bytes)(body)
    except Exception:
        return body


def extractor(name):
    if name == "resiliparse":
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.encoding import detect_encoding
        from resiliparse.parse.html import HTMLTree

        return lambda body: extract_plain_text(HTMLTree.parse_from_bytes(body, detect_encoding(body)), main_content=True, alt_texts=True)
    import trafilatura

    return lambda body: trafilatura.extract(body, include_comments=True) or ""


def peer(name, arguments, truth):
    import fasttext
    from datasketch import MinHash, MinHashLSH

    extract = extractor(name)
    line = lambda text: " ".join(tokens(text))
    other = truth_of(arguments.train)
    path = os.path.join(arguments.work, f"{name}.txt")
    with open(path, "w", encoding="utf8") as f:
        for key, _, body in pages_of(arguments.train):
            row = other.get(key)
            if row and row["expected"] != "skip" and row["special"] != "deep":
                f.write(f"__label__{'maths' if row['is_maths'] else 'other'} {line(extract(body))}\n")
    model = fasttext.train_supervised(path, dim=32, bucket=65536, wordNgrams=3, epoch=3, lr=0.1, minCount=3, thread=1, verbose=0)
    items = test_items(arguments.tests)
    index = set().union(*(grams(item, 10) for item in items))
    start = time.process_time()
    texts, survivors, corpus, seen, html = {}, {}, {}, set(), 0
    lsh = MinHashLSH(threshold=0.75, num_perm=112)
    pages = 0
    for key, url, body in pages_of(arguments.crawl):
        pages += 1
        html += len(body)
        if url in seen:
            continue
        seen.add(url)
        if truth.get(key, {}).get("special") == "deep":  # seconds a page: left out, in favour of the peer
            continue
        text = extract(body)
        texts[key] = dict(text=text, language=None)
        labels, scores = model.predict(line(text))
        hash_ = MinHash(num_perm=112)
        hash_.update_batch([" ".join(gram).encode() for gram in grams(text, 5)])
        if lsh.query(hash_):
            continue
        lsh.insert(key, hash_)
        if grams(text, 10) & index:
            continue
        survivors[key] = texts[key]
        if labels[0] == "__label__maths":
            corpus[key] = texts[key]
    return dict(texts=texts, survivors=survivors, corpus=corpus, cpu=time.process_time() - start, memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, pages=pages, html=html)


# ------------------------------------------------------------------ marks
def share(a, b):
    return f"{a / b:.3f} ({a}/{b})" if b else "none"


def flat(text):
    return "".join(text.split())


def marks(mined, truth, norm):
    texts, survivors, corpus = mined["texts"], mined["survivors"], mined["corpus"]
    pages = {key: row for key, row in truth.items() if row["expected"] != "skip"}
    groups, must_not = collections.defaultdict(list), []
    for key, row in pages.items():
        if row["cluster"] and (row["jaccard"] or 0) < 0.85:
            must_not.append(key) if row["jaccard"] < 0.5 else None
        else:
            groups[row["cluster"] or key].append(key)
    out = {}
    # Formulas of maths pages, sets of duplicates once.
    kept = wanted = 0
    lost = collections.Counter()
    for members in groups.values():
        row = pages[members[0]]
        if not row["is_maths"]:
            continue
        best, index = 0, [norm.page_index(corpus[key]["text"]) for key in members if key in corpus]
        formulas = [formula for formula in row["formulas"] if norm.long_enough(formula)]
        for page in index:
            best = max(best, sum(norm.find(page, formula) > 0 for formula in formulas))
        kept, wanted = kept + best, wanted + len(formulas)
        lost[row["markup"]] += len(formulas) - best
    out["formulas of maths pages that reach the corpus"] = share(kept, wanted)
    out["  lost most by markup"] = ", ".join(f"{markup} {n}" for markup, n in lost.most_common(5) if n)
    # What extraction keeps, of all pages.
    count = collections.Counter()
    for key, text in texts.items():
        row = pages.get(key)
        if not row:
            continue
        whole = flat(text["text"])
        found = lambda strings: sum(flat(string) in whole for string in strings)
        index = norm.page_index(text["text"])
        formulas = [formula for formula in row["formulas"] if norm.long_enough(formula)]
        count["formulas"] += sum(norm.find(index, formula) > 0 for formula in formulas)
        count["all formulas"] += len(formulas)
        for what in ("must", "forbidden", "hidden"):
            count[what] += found(row[what] or [])
            count["all " + what] += len(row[what] or [])
        if row["probe"]:
            count["probe"] += found([row["probe"]])
            count["all probe"] += 1
        count["language"] += text["language"] == row["language"]
    out["formulas that extraction keeps, all pages"] = share(count["formulas"], count["all formulas"])
    out["sentences kept"] = share(count["must"], count["all must"])
    out["boilerplate leaked"] = share(count["forbidden"], count["all forbidden"])
    out["hidden text leaked"] = share(count["hidden"], count["all hidden"])
    out["charset right"] = share(count["probe"], count["all probe"])
    out["language right"] = share(count["language"], sum(key in pages for key in texts))
    out["pages without a text"] = len([key for key in pages if key not in texts])
    # Near-duplicates.
    right = wrong = missed = 0
    planted = {key for key, row in pages.items() if row["planted"]}
    for members in groups.values():
        members = [key for key in members if key in texts and key not in planted]
        stay = sum(key in survivors for key in members)
        right, missed = right + len(members) - max(stay, 1), missed + max(stay - 1, 0)
        wrong += len(members) > 0 and stay == 0
        right -= len(members) == 0 and -1
    wrong += sum(key in texts and key not in survivors and key not in planted for key in must_not)
    precision, recall = right / max(right + wrong, 1), right / max(right + missed, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    out["near-duplicates: F1, precision, recall"] = f"{f1:.3f}, {precision:.3f}, {recall:.3f} (right {right}, wrong {wrong}, missed {missed})"
    # Test items.
    count = collections.Counter()
    for key, row in pages.items():
        item = row["planted"]
        if not item or key not in texts:
            continue
        words = tokens(item["text"])
        whole = tokens(survivors[key]["text"]) if key in survivors else []
        n = min(10, len(words))
        there = {tuple(whole[i : i + n]) for i in range(len(whole) - n + 1)} & {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        kind = ("short " if item["how"].startswith("short") else "") + ("items" if item["must_go"] else "changed")
        if key in survivors or item["must_go"]:
            count["all " + kind] += 1
            count[kind] += bool(there) != item["must_go"]
            if item["must_go"]:
                count["rest kept"] += key in survivors
                count["all rest"] += 1
    out["planted items gone: 10-grams, short"] = f"{share(count['items'], count['all items'])}, {share(count['short items'], count['all short items'])}"
    out["changed numbers spared: long, short"] = f"{share(count['changed'], count['all changed'])}, {share(count['short changed'], count['all short changed'])}"
    out["contaminated pages whose rest is kept"] = share(count["rest kept"], count["all rest"])
    # The classifier, sets of duplicates once.
    count = collections.Counter()
    for members in list(groups.values()) + [[key] for key in must_not]:
        members = [key for key in members if key in texts]
        if not any(key in survivors for key in members):
            continue
        row = pages[members[0]]
        is_kept = any(key in corpus for key in members)
        count["kept"] += is_kept
        count["right"] += is_kept and row["is_maths"]
        count["maths"] += row["is_maths"]
        if row["kind"] == "prose":
            count["prose"] += is_kept
            count["all prose"] += 1
    out["maths pages: precision, recall"] = f"{share(count['right'], count['kept'])}, {share(count['right'], count['maths'])}"
    out["those without formulas: recall"] = share(count["prose"], count["all prose"])
    out["pages per CPU second"] = f"{mined['pages'] / mined['cpu']:.0f} ({mined['pages']} pages, {mined['cpu']:.2f} s)"
    out["MB of HTML per CPU second"] = f"{mined['html'] / mined['cpu'] / 1e6:.1f}"
    out["peak memory, MB"] = f"{mined['memory']:.0f}"
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("crawl")
    parser.add_argument("--train", help="another crawl, from which the classifiers learn")
    parser.add_argument("--classifier", help="Koan's classifier, instead of one trained here")
    parser.add_argument("--threshold", type=float, help="instead of the cut beside the classifier")
    parser.add_argument("--norm", required=True, help="the folder of latexnorm.py")
    parser.add_argument("--tests", type=lambda words: words.split(), default=[], help="files of test items, or patterns")
    parser.add_argument("--koan", default="koan", help="the program, built with its feature mine")
    parser.add_argument("--run-verb", help="instead of KOAN mine run")
    parser.add_argument("--train-verb", help="instead of KOAN mine train")
    parser.add_argument("--peers", default="resiliparse,trafilatura")
    parser.add_argument("--work", default="mine-pipeline")
    arguments = parser.parse_args()
    os.makedirs(arguments.work, exist_ok=True)
    sys.path.insert(0, arguments.norm)
    import latexnorm

    truth = truth_of(arguments.crawl)
    results = {"koan": marks(koan(arguments, truth), truth, latexnorm)}
    for name in filter(None, arguments.peers.split(",")):
        results[name] = marks(peer(name, arguments, truth), truth, latexnorm)
    for what in results["koan"]:
        print(f"{what:<48}" + "  |  ".join(str(marked[what]) for marked in results.values()))


if __name__ == "__main__":
    main()
