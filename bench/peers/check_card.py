"""Holds a model card to what Hugging Face's own tools make of it, and a hub to what was pushed to it.

    python bench/peers/check_card.py runs/r1/model/README.md
    python bench/peers/check_card.py README.md --endpoint http://127.0.0.1:1234 --repo me/model --model runs/r1/model
    python bench/peers/check_card.py README.md --endpoint http://127.0.0.1:1234 --repo me/model --model runs/r1/model --upload

The card is loaded by huggingface_hub.ModelCard; its metadata must survive their own writer, and every EvalResult be a share with its
interval. With --endpoint, snapshot_download must give back the model's files, byte for byte; with --upload, they are first sent there by
HfApi.upload_folder instead of `koan model push`, which shows that the hub of the tests (`cargo run -p koan-hub --example hub`) speaks their
protocol. Needs huggingface_hub alone.
"""

import argparse
import os
import pathlib
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("card", type=pathlib.Path)
parser.add_argument("--endpoint")
parser.add_argument("--repo")
parser.add_argument("--model", type=pathlib.Path)
parser.add_argument("--token", default="hf_test")
parser.add_argument("--upload", action="store_true")
args = parser.parse_args()

# Large files by Git LFS: the hub of the tests has no other way.
os.environ["HF_HUB_DISABLE_XET"] = "1"
if not args.endpoint:
    os.environ["HF_HUB_OFFLINE"] = "1"

from huggingface_hub import HfApi, ModelCard, ModelCardData, snapshot_download  # noqa: E402
from huggingface_hub.repocard_data import eval_results_to_model_index  # noqa: E402

card = ModelCard.load(args.card)
data = card.data
assert isinstance(data, ModelCardData)
print("metadata:", {key: value for key, value in data.to_dict().items() if key != "model-index"})
assert data.library_name in ("transformers", "peft"), data.library_name
assert data.pipeline_tag in ("text-generation", "text-classification"), data.pipeline_tag
assert "koan" in data.tags
if data.base_model:
    assert data.to_dict()["base_model_relation"] in ("finetune", "adapter")
for result in data.eval_results or []:
    low, high = result.metric_args["low"], result.metric_args["high"]
    assert 0 <= low <= result.metric_value <= high <= 1, result
    assert result.dataset_name and result.dataset_type and len(result.dataset_args["sha256"]) == 64
    print(f"{result.dataset_name}: {result.metric_name} {result.metric_value:.4f} ({low:.4f} to {high:.4f})")
if data.eval_results:
    index = eval_results_to_model_index(data.model_name, data.eval_results)
    assert index[0]["name"] == data.model_name
again = ModelCard(str(card))
assert again.data.to_dict() == data.to_dict()
assert again.text == card.text
sections = ["Data", "Training", "Evaluation", "Contamination", "Safety", "Cost", "Limits", "How to reproduce it"]
for section in sections:
    assert f"\n## {section}\n" in card.text, section

if args.endpoint:
    api = HfApi(endpoint=args.endpoint, token=args.token)
    if args.upload:
        api.create_repo(args.repo, exist_ok=True)
        commit = api.upload_folder(repo_id=args.repo, folder_path=args.model, commit_message="From huggingface_hub")
        print("uploaded:", commit)
    with tempfile.TemporaryDirectory() as folder:
        got = pathlib.Path(snapshot_download(args.repo, cache_dir=folder, endpoint=args.endpoint, token=args.token))
        names = sorted(path.name for path in got.iterdir() if not path.name.startswith("."))
        there = sorted(path.name for path in args.model.iterdir() if path.is_file())
        assert names == there, (names, there)
        for name in names:
            assert (got / name).read_bytes() == (args.model / name).read_bytes(), name
        print("downloaded:", ", ".join(names))
print("the card is as huggingface_hub reads it")
