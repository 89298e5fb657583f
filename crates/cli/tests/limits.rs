//! What is too large is refused before work begins, and says what and why: models, prompts, counts; and what is no file.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use koan_model::{Config, testkit};
use serde_json::{Map, json};

/// A folder with a tiny model and problems.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        testkit::write_model(&folder.at("model"), 4).expect("a model");
        folder.ok("data generate arithmetic --n 5 --levels 1 --out train.jsonl");
        folder.write("pairs.jsonl", "{\"prompt\": \"1+1\", \"completion\": \"2\"}\n");
        folder.write(
            "run.toml",
            "run_dir = 'run'\nmodel = 'model'\ndata = 'train.jsonl'\nsteps = 1\n[rollout]\nproblems = 2\n\
             group_size = 2\nmax_new_tokens = 3\n",
        );
        folder.write("sft.toml", "run_dir = 'sft'\nmodel = 'model'\ndata = 'pairs.jsonl'\nsteps = 1\n");
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("written");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn koan(&self, words: &str) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_koan"));
        command.args(words.split_whitespace());
        command
    }

    fn ok(&self, words: &str) {
        let output = self.koan(words).output().expect("started");
        assert!(output.status.success(), "{words}: {}", said(&output));
    }

    /// `koan` in an address space of so many kilobytes.
    fn in_kilobytes(&self, kilobytes: usize, words: &str) -> Output {
        let words = format!("ulimit -v {kilobytes}; exec {} {words}", env!("CARGO_BIN_EXE_koan"));
        let mut command = self.command("sh");
        in_time(command.args(["-c", &words]), &words)
    }

    /// What a refused command says: at once, in one `error:` paragraph, without a panic.
    fn refused(&self, words: &str) -> String {
        let output = in_time(&mut self.koan(words), words);
        let error = said(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{words}: {}: {error}", output.status);
        assert_eq!(error.matches("error: ").count(), 1, "{words}: {error}");
        error
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The output of a command that ends in time.
fn in_time(command: &mut Command, words: &str) -> Output {
    let mut child = command.spawn().expect("started");
    let start = Instant::now();
    while child.try_wait().expect("asked").is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().expect("killed");
            panic!("{words}: no end");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// A model of 70 billion parameters: its config, and weights that take no room, since nobody wrote any.
fn write_giant(folder: &Folder) {
    fs::create_dir(folder.at("giant")).expect("made");
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128_256, "hidden_size": 8192,
        "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "max_position_embeddings": 8192, "tie_word_embeddings": false,
        "eos_token_id": 0,
    });
    folder.write("giant/config.json", &config.to_string());
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(folder.at("model").join(name), folder.at("giant").join(name)).expect("copied");
    }
    let config = Config::load(&folder.at("giant")).expect("a config");
    let (mut header, mut end) = (Map::new(), 0);
    for info in config.tensors() {
        let start = end;
        end += 2 * info.len();
        let about = json!({"dtype": "BF16", "shape": info.shape, "data_offsets": [start, end]});
        header.insert(info.name.clone(), about);
    }
    let header = json!(header).to_string();
    let mut file = File::create(folder.at("giant/model.safetensors")).expect("made");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| file.write_all(header.as_bytes()))
        .and_then(|()| file.set_len((8 + header.len() + end) as u64))
        .expect("written");
}

#[test]
fn a_model_too_large_for_the_memory_is_refused_before_it_is_read() {
    let folder = Folder::new();
    write_giant(&folder);
    folder.write(
        "giant.toml",
        &fs::read_to_string(folder.at("run.toml")).expect("read").replace("'model'", "'giant'"),
    );
    folder.write(
        "giant-sft.toml",
        &fs::read_to_string(folder.at("sft.toml")).expect("read").replace("'model'", "'giant'"),
    );
    for words in [
        "generate --model giant --input train.jsonl",
        "generate --model giant --input train.jsonl --memory 1",
        "eval --model giant --data train.jsonl",
        "score --model giant --input pairs.jsonl",
        "chat --model giant",
        "bench generate --model giant",
        "bench rl --model giant",
        "bench train --config giant/config.json",
        "rl giant.toml",
        "sft giant-sft.toml",
    ] {
        let output = folder.in_kilobytes(3_000_000, words);
        let error = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {error}");
        assert!(error.contains("GiB of memory") && error.contains("weights"), "{words}: {error}");
    }
    for words in ["model export giant --gguf out.gguf", "model export giant --out out --type f32"] {
        let output = folder.in_kilobytes(3_000_000, words);
        let error = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {error}");
        assert!(error.contains("one tensor at a time needs 7.8 GiB of memory"), "{words}: {error}");
    }
    // The same limits, a model that fits.
    for words in [
        "generate --model model --input train.jsonl --max-new-tokens 3 --temperature 1",
        "score --model model --input pairs.jsonl",
        "model export model --gguf small.gguf",
    ] {
        let output = folder.in_kilobytes(3_000_000, words);
        assert!(output.status.success(), "{words}: {}", said(&output));
    }
}
