//! What is too large is refused before work begins, and says what and why: models, prompts, counts; and what is no file.
#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Mutex,
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
    for words in [
        "bench peak --size 200000",
        "bench product --shape 200000x200000 --rows 1",
        "bench product --shape 64x200000 --rows 200000",
        "bench product --config giant/config.json --rows 1000000",
    ] {
        let output = folder.in_kilobytes(3_000_000, words);
        let error = said(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {error}");
        assert!(error.contains("a matrix needs") && error.contains("give smaller sizes"), "{words}: {error}");
    }
    // The same limits, a model that fits.
    for words in [
        "generate --model model --input train.jsonl --max-new-tokens 3 --temperature 1",
        "score --model model --input pairs.jsonl",
        "model export model --out small --type f32",
    ] {
        let output = folder.in_kilobytes(3_000_000, words);
        assert!(output.status.success(), "{words}: {}", said(&output));
    }
}

#[test]
fn a_prompt_that_no_model_reads_is_refused_before_it_is_encoded() {
    let folder = Folder::new();
    for (megabytes, wanted) in [(5, "65536 is the most that is encoded"), (17, "longer than 16777216 bytes")]
    {
        let long = "1+".repeat(megabytes << 19);
        folder.write(
            "long.jsonl",
            &format!(
                "{{\"prompt\": \"1\", \"answer\": \"1\"}}\n{{\"prompt\": \"{long}\", \"answer\": \"1\"}}\n"
            ),
        );
        folder.write("completions.jsonl", &format!("{{\"prompt\": \"1\", \"completion\": \"{long}\"}}\n"));
        for words in [
            "generate --model model --input long.jsonl",
            "eval --model model --data long.jsonl",
            "score --model model --input completions.jsonl",
            "rl run.toml --set data=long.jsonl",
            "rl run.toml --plan --set data=long.jsonl",
        ] {
            let start = Instant::now();
            let output = folder.in_kilobytes(2_000_000, words);
            let error = said(&output);
            assert_eq!(output.status.code(), Some(1), "{words}: {error}");
            assert!(error.contains(wanted) && error.len() < 1000, "{words}: {error}");
            let named = error.contains("line-2") || error.contains(".jsonl:");
            assert!(named, "{words}: {error}");
            assert!(start.elapsed() < Duration::from_secs(20), "{words}: {:?}", start.elapsed());
        }
        let file = format!("chat-{megabytes}");
        folder.write(&file, &long);
        let mut chat = folder.koan("chat --model model");
        let input = File::open(folder.at(&file)).expect("opened");
        let error = said(&in_time(chat.stdin(input), "chat"));
        let wanted = wanted.trim_end_matches(" encoded");
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn what_is_no_file_is_refused_and_nothing_waits_for_it() {
    let folder = Folder::new();
    assert!(folder.command("mkfifo").arg("fifo").status().expect("started").success());
    let with = |name: &str| {
        // A model directory in which one file is the pipe.
        let dir = folder.at(&format!("with-{name}"));
        fs::create_dir(&dir).expect("made");
        for file in fs::read_dir(folder.at("model")).expect("listed") {
            let file = file.expect("read");
            if file.file_name() != *name {
                fs::copy(file.path(), dir.join(file.file_name())).expect("copied");
            }
        }
        assert!(folder.command("mkfifo").arg(dir.join(name)).status().expect("started").success());
        format!("with-{name}")
    };
    for path in ["fifo", "/dev/zero", "/dev/urandom", ".", "/dev/stdin"] {
        for words in [
            format!("generate --model model --input {path}"),
            format!("score --model model --input {path}"),
            format!("eval --model model --data {path}"),
            format!("verify --input {path}"),
            format!("rl run.toml --set data={path}"),
            format!("rl {path}"),
            format!("sft {path}"),
            format!("sft sft.toml --set data={path}"),
            format!("data stats {path}"),
            format!("model import {path} --out imported"),
            format!("model init --config {path} --out fresh"),
            format!("bench train --config {path}"),
        ] {
            let error = folder.refused(&words);
            assert!(error.len() < 1000, "{words}: {error}");
        }
    }
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "generation_config.json",
    ] {
        let model = with(name);
        for words in [
            format!("generate --model {model} --input train.jsonl --max-new-tokens 1"),
            format!("rl run.toml --set model={model}"),
            format!("model export {model} --gguf out.gguf"),
            format!("model info {model}"),
        ] {
            // A file that a command does not need may be anything.
            let output = in_time(&mut folder.koan(&words), &words);
            assert!(matches!(output.status.code(), Some(0 | 1)), "{words}: {}", said(&output));
            let needed = !words.contains("generation_config.json");
            assert!(
                !needed
                    || ["it is a pipe", "not a regular file"].iter().any(|why| said(&output).contains(why)),
                "{words}: {}",
                said(&output)
            );
        }
    }
}

/// What nobody means by a number of something.
const VALUES: [&str; 9] = [
    "0",
    "1000000000",
    "2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "-1",
    "nan",
    "inf",
    "1e308",
];

/// A command that ends in time, well or with an error, and without a panic.
fn holds(folder: &Folder, words: &str) {
    let output = in_time(&mut folder.koan(words), words);
    let error = said(&output);
    assert!(matches!(output.status.code(), Some(0..=2)), "{words}: {}: {error}", output.status);
    assert!(!error.contains("panicked"), "{words}: {error}");
}

/// The commands below `koan` that do something, each with its options that take a value, as `--help` lists them.
fn commands(folder: &Folder, path: &str) -> Vec<(String, Vec<String>)> {
    let output = folder.koan(&format!("{path} --help")).output().expect("started");
    let help = String::from_utf8(output.stdout).expect("text");
    if let Some((_, list)) = help.split_once("\nCommands:\n") {
        let names = list
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next());
        let below = |name: &str| commands(folder, &format!("{path} {name}"));
        return names.filter(|name| *name != "help").flat_map(below).collect();
    }
    let option = |line: &str| {
        let line = line.trim_start().trim_start_matches("-h, ");
        let (flag, value) = line.split_once(' ')?;
        (flag.starts_with("--") && value.starts_with('<')).then(|| flag.to_owned())
    };
    vec![(path.trim().to_owned(), help.lines().filter_map(option).collect())]
}

#[test]
fn a_number_at_its_limits_is_used_or_refused_by_every_command() {
    let folder = Folder::new();
    folder.write("problems.jsonl", "{\"prompt\": \"1+1\", \"answer\": \"2\"}\n");
    folder.write("verify.jsonl", "{\"answer\": \"2\", \"completion\": \"2\"}\n");
    let all = commands(&folder, "");
    assert!(all.len() > 20 && all.iter().any(|(name, _)| name == "bench rl"), "{all:?}");
    let mut runs = Vec::new();
    for (name, flags) in &all {
        let small = match &name[..] {
            "demo" => "--run-dir /proc/demo",
            "pretrain" | "sft" => "sft.toml --set run_dir=/proc/run",
            "rl" => "run.toml --set run_dir=/proc/run",
            "generate" => "--model model --input problems.jsonl --max-new-tokens 2",
            "chat" => "--model model",
            "score" => "--model model --input pairs.jsonl",
            "eval" => "--model model --data problems.jsonl --max-new-tokens 2",
            "verify" => "--input verify.jsonl",
            "view" => "no-run",
            "bench generate" => "--model model --sequences 1 --prompt-tokens 1 --new-tokens 1 --runs 1",
            "bench rl" => "--model model --problems 1 --group 1 --prompt-tokens 1 --new-tokens 1 --steps 1",
            "bench train" => "--config model/config.json --sequences 1 --tokens 2 --steps 1",
            "bench product" => "--config model/config.json --rows 1 --repeats 1",
            "model init" => "--config no-config --out fresh",
            "data generate arithmetic" => "--out sums.jsonl --n 1",
            "data generate gcd" => "--out gcds.jsonl --n 1",
            _ => continue, // no numbers, or those of the two above
        };
        for flag in flags {
            // What is given twice is an error of its own.
            let words: Vec<&str> = small.split_whitespace().collect();
            let at = words.iter().position(|word| word == flag);
            let rest = |i: &usize| at.is_none_or(|at| *i != at && *i != at + 1);
            let rest = words.iter().enumerate().filter(|(i, _)| rest(i)).map(|(_, word)| *word);
            let rest = rest.collect::<Vec<_>>().join(" ");
            runs.extend(VALUES.map(|value| format!("{name} {rest} {flag}={value}")));
        }
    }
    assert!(runs.len() > 500, "{}", runs.len());
    let runs = Mutex::new(runs);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(words) = runs.lock().expect("no panic").pop() else { return };
                    let output = in_time(&mut folder.koan(&words), &words);
                    let error = said(&output);
                    assert!(
                        matches!(output.status.code(), Some(0..=2)),
                        "{words}: {}: {error}",
                        output.status
                    );
                    assert!(!error.contains("panicked"), "{words}: {error}");
                }
            });
        }
    });
}

#[test]
fn settings_at_their_limits_are_used_or_refused() {
    let folder = Folder::new();
    let mut runs = Vec::new();
    for key in [
        "steps",
        "seed",
        "checkpoint_every",
        "checkpoints_kept",
        "rollout.problems",
        "rollout.group_size",
        "rollout.max_new_tokens",
        "rollout.max_prompt_tokens",
        "rollout.sequences",
        "rollout.temperature",
        "algorithm.clip",
        "algorithm.kl",
        "algorithm.reference_every",
        "algorithm.mini_batches",
        "algorithm.epochs",
        "algorithm.max_rounds",
        "optim.lr",
        "optim.warmup_steps",
        "optim.warmup_share",
        "optim.beta1",
        "optim.beta2",
        "optim.eps",
        "optim.weight_decay",
        "optim.grad_clip",
        "optim.micro_batch_tokens",
        "eval.every",
        "eval.samples",
    ] {
        let more =
            if key.starts_with("eval") { "--set eval.data=train.jsonl --set eval.every=1 " } else { "" };
        runs.extend(VALUES.map(|value| format!("rl run.toml --plan {more}--set {key}={value}")));
    }
    for key in
        ["steps", "epochs", "batch_tokens", "max_tokens", "seed", "optim.micro_batch_tokens", "optim.lr"]
    {
        runs.extend(VALUES.map(|value| format!("sft sft.toml --set run_dir=/proc/run --set {key}={value}")));
    }
    for (key, other) in
        [("batch_growth.from", "batch_growth.until"), ("batch_growth.until", "batch_growth.from")]
    {
        let sft = format!("sft sft.toml --set run_dir=/proc/run --set {other}=0.5");
        runs.extend(VALUES.map(|value| format!("{sft} --set {key}={value}")));
    }
    for words in runs {
        holds(&folder, &words);
    }
}

#[test]
fn options_of_rewards_at_their_limits_are_used_or_refused() {
    let folder = Folder::new();
    folder.write(
        "verify.jsonl",
        "{\"answer\": \"2\", \"completion\": \"```python\\nprint(2)\\n```\\n2\", \"tests\": [{\"stdin\": \"\", \"stdout\": \"2\"}]}\n",
    );
    let mut runs = Vec::new();
    for (kind, keys) in [
        ("code", &["time_limit_s", "memory_limit_mb", "output_limit_bytes", "threads", "sandboxes"][..]),
        ("external", &["workers", "timeout_s", "max_failures"]),
        ("length", &["max_tokens", "cache_tokens", "correct_short", "exceeded"]),
        ("repetition", &["ngram", "max_penalty"]),
        ("format", &["partial"]),
        ("math", &["precision", "weight", "scores.wrong"]),
        ("number", &["precision"]),
    ] {
        let command = if kind == "external" { "--set command=[\"cat\"] " } else { "" };
        for (key, value) in keys.iter().flat_map(|key| VALUES.map(|value| (key, value))) {
            runs.push(format!("verify --input verify.jsonl --reward {kind} {command}--set {key}={value}"));
        }
    }
    let runs = Mutex::new(runs);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(words) = runs.lock().expect("no panic").pop() else { return };
                    holds(&folder, &words);
                }
            });
        }
    });
}

/// What a shell's pipe gives may have no end.
#[test]
fn a_pipe_without_an_end_is_read_to_a_limit() {
    let folder = Folder::new();
    let koan = env!("CARGO_BIN_EXE_koan");
    let row = "row=$(head -c 100000 /dev/zero | tr '\\0' a); ";
    for command in ["data stats", "sft sft.toml --set data="] {
        let separator = if command.ends_with('=') { "" } else { " " };
        let pipe = "<(yes \"{\\\"prompt\\\": \\\"1\\\", \\\"completion\\\": \\\"$row\\\"}\")";
        let script = format!("{row}'{koan}' {command}{separator}{pipe}");
        let output = folder.command("bash").args(["-c", &script]).output().expect("started");
        let said = said(&output);
        assert!(!output.status.success() && said.contains("more than 268435456 bytes"), "{command}: {said}");
    }
}
