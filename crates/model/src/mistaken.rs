//! What a path is that was given as a model and is none, and what to do with it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 1000;
/// What a file begins with that git-lfs left in the place of a large one.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Such a file is shorter.
const MAX_POINTER_BYTES: u64 = 1024;
/// Largest adapter_config.json that is read, bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Says what `path` is, and what to do: for errors, where it is no model directory.
pub(crate) fn what_it_is(path: &Path) -> String {
    if path.is_dir() {
        of_directory(path)
    } else if path.exists() {
        of_file(path)
    } else {
        of_name(&path.to_string_lossy())
    }
}

/// The first file of the model directory `dir` that is a pointer of git-lfs.
pub(crate) fn pointer(dir: &Path) -> Option<PathBuf> {
    entries(dir).into_iter().map(|name| dir.join(name)).find(|path| is_pointer(path))
}

fn is_pointer(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() < MAX_POINTER_BYTES)
        && head(path).starts_with(POINTER)
}

/// The first bytes of a file.
fn head(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
        let _ = File::open(path).and_then(|file| file.take(POINTER.len() as u64).read_to_end(&mut bytes));
    }
    bytes
}

/// The names in a directory, in order.
fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().take(MAX_ENTRIES).flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn of_name(name: &str) -> String {
    if let Some(path) = name.strip_prefix("file:") {
        let path = path.trim_start_matches("//").trim_start_matches("localhost");
        return format!("it is a URL: give the path alone, `{path}`");
    }
    let hub = ["https://", "http://", "hf://", "hf:"].iter().find_map(|scheme| name.strip_prefix(scheme));
    let of_url = hub.map(|rest| {
        let hosts = ["huggingface.co/", "www.huggingface.co/", "hf.co/", "hf-mirror.com/"];
        let rest = hosts.iter().find_map(|host| rest.strip_prefix(host)).unwrap_or(rest);
        rest.split('/').take(2).collect::<Vec<_>>().join("/")
    });
    let repository = of_url.clone().unwrap_or_else(|| name.trim_end_matches('/').to_owned());
    let part = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !part.is_empty() && part.bytes().all(plain) && !part.starts_with('.')
    };
    match repository.split_once('/') {
        Some((owner, model)) if part(owner) && part(model) => format!(
            "there is no such directory. If it is a model on a hub, `koan model pull {repository}` fetches it to \
             `models/{model}`: give that then"
        ),
        _ if of_url.is_some() => "it is a URL: fetch it first, and give its directory".to_owned(),
        _ => "there is no such directory; `koan model pull OWNER/NAME` fetches a model, `koan model import FILE.gguf` makes one of \
              a GGUF file"
            .to_owned(),
    }
}

fn of_file(path: &Path) -> String {
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let parent = parent.display();
    if is_pointer(path) {
        return format!("it is a pointer of git-lfs: `git lfs pull` in `{parent}` fetches the file itself");
    }
    if head(path).starts_with(b"GGUF") {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        return format!(
            "it is a GGUF file: `koan model import {} --out models/{stem}` makes a model directory of it",
            path.display()
        );
    }
    match extension.as_str() {
        "safetensors" => format!("it is a file of weights: give its directory, `{parent}`"),
        "json" | "jinja" => format!("it is one file of a model: give its directory, `{parent}`"),
        "bin" | "pt" | "pth" | "ckpt" => format!("it is a file of PyTorch, {}", pytorch(&parent.to_string())),
        "onnx" => ONNX.to_owned(),
        "zip" | "gz" | "tar" | "tgz" | "whl" | "7z" => {
            "it is an archive: unpack it, and give the model's directory".to_owned()
        }
        _ => "it is a file; a model is a directory with config.json, model.safetensors and tokenizer.json"
            .to_owned(),
    }
}

const ONNX: &str =
    "it is a model in ONNX, which Koan does not read: take the model it was made from, in safetensors";

fn pytorch(dir: &str) -> String {
    format!(
        "whose weights (.bin, .pt) are pickled Python, which Koan does not run. Save them as safetensors once with transformers: \
         `AutoModelForCausalLM.from_pretrained(\"{dir}\").save_pretrained(\"NEW\", safe_serialization=True)`, and the tokenizer \
         beside"
    )
}

fn of_directory(dir: &Path) -> String {
    let names = entries(dir);
    let has = |name: &str| names.iter().any(|n| n == name);
    let ending = |ending: &str| names.iter().find(|n| n.to_ascii_lowercase().ends_with(ending));
    let at = |name: &str| dir.join(name).display().to_string();
    if has("adapter_config.json") {
        let base =
            koan_files::read_bounded(&dir.join("adapter_config.json"), MAX_CONFIG_BYTES).ok().flatten();
        let base: Option<Value> = base.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let base =
            base.as_ref().and_then(|c| c["base_model_name_or_path"].as_str()).filter(|b| b.len() < 200);
        let of = base.map_or_else(String::new, |base| format!(" of `{base}`"));
        return format!(
            "it is an adapter (LoRA){of}: give the base model's directory here and this one as its adapter (`--adapter`, \
             `adapter.from`), or make one model of both with `koan model merge`"
        );
    }
    if has("config.toml") && has("checkpoints") {
        if dir.join("model/config.json").exists() {
            return format!("it is the directory of a run: give its final model, `{}`", at("model"));
        }
        let newest = entries(&dir.join("checkpoints")).into_iter().rfind(|name| name.starts_with("step-"));
        return match newest {
            Some(step) => format!(
                "it is the directory of a run without a final model yet: give its newest checkpoint, `{}`",
                dir.join("checkpoints").join(step).display()
            ),
            None => "it is the directory of a run without a checkpoint yet".to_owned(),
        };
    }
    if has("model_index.json") {
        return "it is a pipeline of diffusers (images), not a language model".to_owned();
    }
    if let Some(gguf) = ending(".gguf") {
        let file = at(gguf);
        return format!(
            "it holds a GGUF file: `koan model import {file} --out models/NAME` makes a model directory of it"
        );
    }
    if has("onnx") || ending(".onnx").is_some() {
        return ONNX.to_owned();
    }
    if ending(".bin").is_some() || ending(".pth").is_some() || ending(".pt").is_some() {
        return format!("it is a directory of PyTorch, {}", pytorch(&dir.display().to_string()));
    }
    if ending(".h5").is_some() || ending(".msgpack").is_some() {
        return "its weights are for TensorFlow or Flax: take the model in safetensors".to_owned();
    }
    if ending(".npz").is_some() {
        return "its weights are for MLX or NumPy: take the model in safetensors".to_owned();
    }
    // One level below, and two: the folder of all models, or a hub's cache.
    let below = |dir: &Path| entries(dir).into_iter().map(|name| dir.join(name)).collect::<Vec<_>>();
    let first = below(dir);
    let is_model = |path: &&PathBuf| path.join("config.json").is_file();
    let mut models: Vec<PathBuf> = first.iter().filter(is_model).cloned().collect();
    if models.is_empty() {
        models = first.iter().take(50).flat_map(|dir| below(dir)).filter(|path| is_model(&path)).collect();
    }
    models.sort_by_key(|path| {
        std::cmp::Reverse(path.to_string_lossy().contains("step-").then(|| path.clone()))
    });
    let models: Vec<String> = models.iter().take(3).map(|path| format!("`{}`", path.display())).collect();
    if !models.is_empty() {
        return format!("it is no model but holds some: did you mean {}?", models.join(" or "));
    }
    if names.is_empty() {
        return "the directory is empty; `koan model pull OWNER/NAME` fetches a model".to_owned();
    }
    let missing: Vec<&str> =
        ["config.json", "model.safetensors"].into_iter().filter(|name| !has(name)).collect();
    format!("it has no {}; a model is a directory of Hugging Face's files", missing.join(" and no "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, checkpoint::Weights, testkit};

    #[test]
    fn whatever_is_given_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let put = |name: &str, text: &str| {
            fs::create_dir_all(at(name).parent().expect("a parent")).expect("made");
            fs::write(at(name), text).expect("written");
        };
        put("adapter/adapter_config.json", "{\"base_model_name_or_path\": \"Qwen/Qwen3-0.6B\"}");
        put("adapter/adapter_model.safetensors", "x");
        put("images/model_index.json", "{}");
        put("onnx/model.onnx", "x");
        put("torch/pytorch_model.bin", "x");
        put("ggufs/a.Q4_0.gguf", "GGUF");
        put("run/config.toml", "");
        put("run/checkpoints/step-000010/config.json", "{}");
        put("run/checkpoints/step-000020/config.json", "{}");
        put("done/config.toml", "");
        put("done/checkpoints/step-000010/config.json", "{}");
        put("done/model/config.json", "{}");
        put("models/one/config.json", "{}");
        put("cache/snapshots/0abc/config.json", "{}");
        put("weights.safetensors", "x");
        put("lfs.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
        put("archive.tar", "x");
        fs::create_dir(at("empty")).expect("made");
        for (name, said) in [
            ("adapter", "adapter (LoRA) of `Qwen/Qwen3-0.6B`"),
            ("images", "diffusers"),
            ("onnx", "ONNX"),
            ("onnx/model.onnx", "ONNX"),
            ("torch", "safe_serialization"),
            ("torch/pytorch_model.bin", "safe_serialization"),
            ("ggufs", "koan model import"),
            ("ggufs/a.Q4_0.gguf", "--out models/a.Q4_0"),
            ("run", "run/checkpoints/step-000020`"),
            ("run/checkpoints", "step-000020`"),
            ("done", "done/model`"),
            ("models", "models/one`"),
            ("cache", "cache/snapshots/0abc`"),
            ("weights.safetensors", "give its directory"),
            ("lfs.safetensors", "git lfs pull"),
            ("archive.tar", "unpack it"),
            ("empty", "empty"),
        ] {
            let error = Config::load(&at(name)).expect_err("no model").to_string();
            assert!(error.contains(said), "{name}: {error}");
            assert!(error.contains(&at(name).display().to_string()), "{name}: {error}");
        }
        for (name, said) in [
            ("Qwen/Qwen3-0.6B", "`koan model pull Qwen/Qwen3-0.6B` fetches it to `models/Qwen3-0.6B`"),
            ("https://huggingface.co/Qwen/Qwen3-0.6B", "`koan model pull Qwen/Qwen3-0.6B`"),
            ("https://huggingface.co/Qwen/Qwen3-0.6B/tree/main", "`koan model pull Qwen/Qwen3-0.6B`"),
            ("hf://Qwen/Qwen3-0.6B", "`koan model pull Qwen/Qwen3-0.6B`"),
            ("file:///data/model", "the path alone, `/data/model`"),
            ("nowhere", "`koan model pull OWNER/NAME`"),
            ("../nowhere/at/all", "`koan model pull OWNER/NAME`"),
        ] {
            let error = Config::load(Path::new(name)).expect_err("no model").to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }

    #[test]
    fn a_model_of_pointers_or_of_other_weights_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("model");
        testkit::write_model(&dir, 4).expect("a model");
        fs::remove_file(dir.join("model.safetensors")).expect("removed");
        fs::write(dir.join("pytorch_model.bin"), "x").expect("written");
        let config = Config::load(&dir).expect("a config");
        let error = Weights::open(&dir, &config).err().expect("no weights").to_string();
        assert!(error.contains("safe_serialization"), "{error}");
        fs::remove_file(dir.join("pytorch_model.bin")).expect("removed");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
        fs::write(dir.join("model.safetensors"), pointer).expect("written");
        let error = Config::load(&dir).expect_err("a pointer").to_string();
        assert!(error.contains("model.safetensors") && error.contains("git lfs pull"), "{error}");
    }
}
