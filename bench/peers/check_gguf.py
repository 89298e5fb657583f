"""Compare a GGUF file that Koan wrote with the Hugging Face folder it was made of, through gguf-py.

Usage: python check_gguf.py MODEL_DIR MODEL.gguf

Every tensor's bytes must be those that gguf-py's own quantisation gives for the folder's numbers, with the
rows of q and k in the order of llama.cpp's `llama`; every token, merge and special id must be there.
Needs: gguf, numpy, tokenizers.
"""

import json
import pathlib
import sys

import numpy as np
from gguf import GGUFReader, GGMLQuantizationType, TokenType, quants
from gguf.tensor_mapping import get_tensor_name_map
from gguf import MODEL_ARCH_NAMES
from tokenizers import Tokenizer


def tensors(folder):
    """All tensors as float32; bf16 is widened by hand, which numpy has no name for."""
    import struct

    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            for name, info in header.items():
                if name == "__metadata__":
                    continue
                start, end = info["data_offsets"]
                file.seek(8 + length + start)
                raw = file.read(end - start)
                if info["dtype"] == "BF16":
                    values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
                else:
                    values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[info["dtype"]]).astype(np.float32)
                yield name, values.reshape(info["shape"])


def shuffled(values, heads):
    """The order of rows that llama.cpp's rotation of neighbours wants."""
    return values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def main():
    folder, reader = pathlib.Path(sys.argv[1]), GGUFReader(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    field = lambda key: reader.fields[key].contents() if key in reader.fields else None
    arch = field("general.architecture")
    names = get_tensor_name_map(
        next(a for a, name in MODEL_ARCH_NAMES.items() if name == arch), config["num_hidden_layers"]
    )
    found = {t.name: t for t in reader.tensors}
    seen = set()
    for name, values in tensors(folder):
        if config.get("tie_word_embeddings") and name == "lm_head.weight":
            continue
        want = names.get_name(name, try_suffixes=(".weight", ".bias"))
        tensor = found[want]
        if arch == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = config["num_attention_heads" if ".q_proj." in name else "num_key_value_heads"]
            values = shuffled(values, heads)
        assert list(reversed(tensor.shape)) == list(values.shape), (name, tensor.shape)
        wanted = quants.quantize(values, tensor.tensor_type)
        same = np.array_equal(np.asarray(tensor.data).view(np.uint8).ravel(), wanted.view(np.uint8).ravel())
        if not same:
            # The two round in different orders: a step of the block's grid at most, in few places.
            ours, theirs = (quants.dequantize(np.asarray(x), tensor.tensor_type) for x in (tensor.data, wanted))
            step = np.abs(theirs).max() / 7
            places = (ours != theirs).mean()
            assert np.abs(ours - theirs).max() <= step and places < 1e-3, (name, tensor.tensor_type, places)
            print(f"{name}: {places:.1e} of the numbers differ by a step")
        seen.add(want)
    extra = set(found) - seen - {"rope_freqs.weight"}
    assert not extra, extra

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    data = json.loads((folder / "tokenizer.json").read_text())
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    assert len(tokens) == len(kinds) == config["vocab_size"]
    for id, (token, kind) in enumerate(zip(tokens, kinds)):
        known = tokenizer.id_to_token(id)
        assert known == token if known is not None else kind == TokenType.UNUSED, (id, token, known)
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    assert field("tokenizer.ggml.merges") == merges
    print(f"{sys.argv[2]}: {len(seen)} tensors and {len(tokens)} tokens as they should be;",
          {k.split(".", 1)[-1]: field(k) for k in reader.fields if k.startswith("tokenizer.ggml.") and k.endswith(("_id", "pre", "add_bos_token"))})


if __name__ == "__main__":
    main()
