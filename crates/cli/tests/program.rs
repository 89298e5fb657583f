//! The program as its users meet it: verbs, files, errors, exit codes, and a kill.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use koan_model::testkit;
use serde_json::Value;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).expect("written");
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.args(words.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &str) -> Output {
        self.command(words).output().expect("started")
    }

    fn ok(&self, words: &str) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "koan {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a refused command says, in one `error:` paragraph with exit code 1.
    fn refused(&self, words: &str) -> String {
        let output = self.output(words);
        assert_eq!(output.status.code(), Some(1), "koan {words}");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(error.matches("error: ").count(), 1, "{error}");
        error
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.at(name)).expect(name);
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// A tiny model, problems, and a config of a run that takes a while.
    fn prepare_run(&self) {
        testkit::write_model(&self.at("model"), 4).expect("a model");
        self.ok("data generate arithmetic --n 40 --levels 1 --out train.jsonl");
        self.write(
            "run.toml",
            "run_dir = 'run'\nmodel = 'model'\ndata = 'train.jsonl'\nsteps = 40\ncheckpoint_every = 5\n\
             [rollout]\nproblems = 8\ngroup_size = 32\nmax_new_tokens = 3\n[algorithm]\nkl = 0.0\n[optim]\nlr = 1e-3\n",
        );
    }
}

#[test]
fn what_is_generated_scores_to_the_same_bits() {
    let folder = Folder::new();
    testkit::write_model(&folder.at("model"), 4).expect("a model");
    folder.ok("data generate arithmetic --n 9 --levels 1-3 --out problems.jsonl");
    let generate =
        "generate --model model --input problems.jsonl --n 3 --max-new-tokens 9 --temperature 1 --seed 5";
    folder.ok(&format!("{generate} --out a.jsonl --threads 1 --sequences 4"));
    folder.ok(&format!("{generate} --out b.jsonl --threads 2 --sequences 64"));
    let (a, b) = (folder.lines("a.jsonl"), folder.lines("b.jsonl"));
    assert_eq!(a, b);
    assert_eq!((a.len(), a[0]["completions"].as_array().map(Vec::len)), (9, Some(3)));
    folder.ok("score --model model --input a.jsonl --out scores.jsonl --threads 2");
    let sampled = a.iter().flat_map(|line| line["completions"].as_array().expect("completions"));
    for (sampled, scored) in sampled.zip(folder.lines("scores.jsonl")) {
        assert_eq!(sampled["logprobs"], scored["logprobs"]);
    }
    folder.ok("score --model model --input a.jsonl --out reference.jsonl --device reference");
    let sums = |name: &str| -> Vec<f64> {
        folder.lines(name).iter().map(|line| line["logprob_sum"].as_f64().expect("a sum")).collect()
    };
    let gaps = sums("scores.jsonl").into_iter().zip(sums("reference.jsonl")).map(|(a, b)| (a - b).abs());
    assert!(gaps.sum::<f64>() / 27.0 < 0.02 * 9.0, "a mean of 0.02 a token");
    let report =
        folder.ok("eval --model model --data problems.jsonl --n 2 --max-new-tokens 5 --out report.json");
    assert!(report.contains("95% interval") && report.contains("18 judged"), "{report}");
    assert_eq!(folder.lines("report.json")[0]["report"]["problems"], 9);
    assert!(folder.ok("model info model").contains("2 layers"));
}

#[test]
fn latents_are_cached_of_models_that_have_them() {
    let folder = Folder::new();
    let kind =
        testkit::deepseek(serde_json::json!({"model_type": "deepseek_v3", "first_k_dense_replace": 1}));
    testkit::write_model_with(&folder.at("deepseek"), 4, kind).expect("a model");
    testkit::write_model(&folder.at("llama"), 4).expect("a model");
    folder.ok("data generate arithmetic --n 4 --levels 1 --out problems.jsonl");
    let generate =
        "generate --input problems.jsonl --n 3 --max-new-tokens 9 --temperature 1 --seed 5 --cache latent";
    for (out, more) in [("a.jsonl", "--threads 1 --sequences 2"), ("b.jsonl", "--threads 2 --drafts text")] {
        folder.ok(&format!("{generate} --model deepseek --out {out} {more}"));
    }
    let lines = folder.lines("a.jsonl");
    assert_eq!(lines, folder.lines("b.jsonl"));
    folder.ok("score --model deepseek --input a.jsonl --out scores.jsonl --cache latent");
    let sampled = lines.iter().flat_map(|line| line["completions"].as_array().expect("completions"));
    for (sampled, scored) in sampled.zip(folder.lines("scores.jsonl")) {
        assert_eq!(sampled["logprobs"], scored["logprobs"]);
    }
    folder.ok(
        "eval --model deepseek --data problems.jsonl --max-new-tokens 5 --cache latent --out report.json",
    );
    assert!(folder.lines("report.json")[0].to_string().contains("\"cache\":\"latent\""));
    // Two layers: expanded, of four heads 9 features of keys and 7 of values; or 9 of latents and 4 rotated ones.
    let info = folder.ok("model info deepseek");
    assert!(info.contains(&format!("({} bytes)", 4 * 2 * 4 * 16)), "{info}");
    assert!(info.contains(&format!("--cache latent 0.000 MiB ({} bytes)", 4 * 2 * 13)), "{info}");
    assert!(!folder.ok("model info llama").contains("--cache latent"));

    let error = folder.refused("generate --model llama --prompt 1 --max-new-tokens 2 --cache latent");
    assert!(error.contains("`llama` is of the family llama, which has no latent attention"), "{error}");
    folder.write(
        "sft.toml",
        "run_dir = 'run'\nmodel = 'llama'\ndata = 'problems.jsonl'\nsteps = 1\ncache = 'latent'\n",
    );
    assert!(folder.refused("sft sft.toml").contains("no latent attention"));
    assert!(folder.refused("sft sft.toml --set cache=both").contains("expected `expanded` or `latent`"));
}

#[test]
fn truncated_draws_stop_and_score_to_the_same_bits() {
    let folder = Folder::new();
    testkit::write_model(&folder.at("model"), 4).expect("a model");
    folder.ok("data generate arithmetic --n 6 --levels 1-3 --out problems.jsonl");
    let generate = "generate --model model --input problems.jsonl --n 8 --max-new-tokens 30 --temperature 0.7 \
                    --top-p 0.9 --top-k 8 --min-p 0.02 --stop 46 --stop 7 --system 1";
    folder.ok(&format!("{generate} --out a.jsonl --threads 1 --sequences 3"));
    // Room for few of the 48 sequences: those that find none wait, and change nothing.
    let narrow =
        folder.output(&format!("{generate} --out b.jsonl --threads 2 --sequences 48 --memory 0.00072"));
    let said = String::from_utf8_lossy(&narrow.stderr).into_owned();
    assert!(narrow.status.success() && said.contains("at once") && !said.contains("48 at once"), "{said}");
    let (a, b) = (folder.lines("a.jsonl"), folder.lines("b.jsonl"));
    assert_eq!(a, b);
    let completions = || a.iter().flat_map(|line| line["completions"].as_array().expect("completions"));
    let (mut stopped, mut cut) = (0, 0);
    for c in completions() {
        let text = c["text"].as_str().expect("text");
        assert!(!text.contains("46") && !text.contains('7'), "{text}");
        stopped += usize::from(c["finish_reason"] == "stop");
        cut += usize::from(c["logprobs"] != c["full_logprobs"]);
    }
    assert!(stopped > 10 && cut > 10, "{stopped} stopped, {cut} drawn from truncated distributions");
    let said =
        folder.output("score --model model --input a.jsonl --out scores.jsonl --temperature 0.7").stderr;
    assert!(String::from_utf8_lossy(&said).contains("largest difference: 0.0"));
    for (drawn, scored) in completions().zip(folder.lines("scores.jsonl")) {
        assert_eq!(drawn["full_logprobs"], scored["logprobs"]);
    }
    assert!(folder.refused(&format!("{generate} --memory 0.0001")).contains("fewer new tokens"));
    assert!(folder.refused("generate --model model --input problems.jsonl --top-p 0").contains("--top-p"));
}

#[test]
fn rewards_are_replayed() {
    let folder = Folder::new();
    folder.write(
        "completions.jsonl",
        "{\"answer\": 68, \"completion\": \"23 + 45 = 68\", \"id\": 1, \"expected\": true}\n\
         {\"answer\": \"7\", \"completion\": \"eight\", \"prompt\": \"3 + 4?\", \"expected\": true}\n",
    );
    let summary =
        folder.ok("verify --input completions.jsonl --out verdicts.jsonl --reward number --show unparsable");
    for expected in [
        "line-2 (line 2): unparsable\n  prompt      3 + 4?\n  completion  eight\n  reference   7\n  number ",
        "correct                  1   50.0%\nwrong                    0    0.0%\nunparsable               1   50.0%",
        "2 judged, mean score 0.500; ",
        "as expected: 1 of 2 (50.00%)\nfalse accepts: 0\nfalse rejects: 1 (line-2)\n",
    ] {
        assert!(summary.contains(expected), "{expected}: {summary}");
    }
    let verdicts = folder.lines("verdicts.jsonl");
    assert_eq!((&verdicts[0]["outcome"], &verdicts[1]["score"]), (&"correct".into(), &0.0.into()));
    let json = folder.ok("verify --input verdicts.jsonl --reward number --set scores.unparsable=-1 --json");
    let json: Value = serde_json::from_str(&json).expect("an object");
    assert_eq!((&json["outcomes"]["unparsable"], &json["score"]), (&1.into(), &0.0.into()));
    assert!(folder.refused("verify --input completions.jsonl --reward nmuber").contains("number"));
    assert!(folder.refused("verify --input completions.jsonl --set scroes=1").contains("scores"));
    folder.write("empty.jsonl", "");
    assert!(folder.refused("verify --input empty.jsonl --out none.jsonl").contains("has no lines"));
    assert!(!folder.at("none.jsonl").exists());
    folder.write("bad.jsonl", "{\"answer\": \"x\", \"completion\": \"1\"}\n");
    assert!(
        folder
            .refused("verify --input bad.jsonl --reward number")
            .contains("every reference of bad.jsonl is bad")
    );
}

#[test]
fn a_file_with_bad_lines_is_refused_or_judged_without_them() {
    let folder = Folder::new();
    folder.write(
        "broken.jsonl",
        "{\"answer\": 1, \"completion\": \"1\"}\nnonsense\n{\"answer\": 1, \"completion\": \"2\"}\n",
    );
    let verify = "verify --input broken.jsonl --out verdicts.jsonl --reward number";
    assert!(folder.refused(verify).contains("broken.jsonl:2:"));
    let nothing = || !folder.at("verdicts.jsonl").exists() && !folder.at(".verdicts.jsonl.part").exists();
    assert!(nothing(), "nothing half written");
    let error = folder.refused(&format!("{verify} --keep-going"));
    assert!(
        error.contains("broken.jsonl:2:") && error.contains("1 lines of broken.jsonl could not be judged")
    );
    let outcomes = |line: &Value| line["outcome"].as_str().map(str::to_owned);
    let outcomes: Vec<_> = folder.lines("verdicts.jsonl").iter().map(outcomes).collect();
    assert_eq!(outcomes, [Some("correct".to_owned()), Some("wrong".to_owned())]);
}

#[test]
fn an_interrupted_replay_leaves_nothing_behind() {
    let folder = Folder::new();
    let lines = "{\"answer\": 1, \"completion\": \"1\"}\n".repeat(100);
    folder.write("completions.jsonl", &lines);
    folder.write("slow.sh", "while read -r line; do touch started; sleep 0.1; echo 1; done");
    let verify = "verify --input completions.jsonl --out verdicts.jsonl --threads 1 --reward external";
    let child = folder
        .command(&format!("{verify} --set command=[\"sh\",\"slow.sh\"]"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let start = Instant::now();
    while !folder.at("started").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never judged");
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().expect("sent").success());
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped: nothing was written"));
    let left = fs::read_dir(folder.0.path()).expect("a folder").count();
    assert_eq!(left, 3, "the input, the script, and that it started");
}

#[test]
fn errors_are_clear_and_come_before_any_work() {
    let folder = Folder::new();
    folder.prepare_run();
    assert!(folder.refused("rl run.toml --set optim.warmup=1").contains("did you mean `warmup_steps`"));
    assert!(folder.refused("rl none.toml").contains("cannot read `none.toml`"));
    assert!(folder.refused("rl run.toml --set data=none.jsonl").contains("cannot read none.jsonl"));
    assert!(folder.refused("rl run.toml --set run_dir=run.toml/run").contains("cannot create"));
    assert!(folder.refused("rl run.toml --resume").contains("nothing to resume"));
    folder.write("empty.jsonl", "\n");
    assert!(folder.refused("rl run.toml --set data=empty.jsonl").contains("has no lines"));
    assert!(folder.refused("generate --model none --input train.jsonl").contains("none"));
    assert!(folder.refused("model import train.jsonl --out m").contains("train.jsonl"));
    assert!(!folder.at("m").exists() && !folder.at("run").exists());
    let bytes = fs::read(folder.at("model/model.safetensors")).expect("there");
    fs::write(folder.at("model/model.safetensors"), &bytes[..999]).expect("written");
    assert!(folder.refused("rl run.toml").contains("truncated"));
    assert!(!folder.at("run").exists(), "nothing was begun");
    assert_eq!(folder.output("rl").status.code(), Some(2), "wrong usage");
    let forced = folder.command("bench rl --model model").env("KOAN_ISA", "mmx").output().expect("started");
    assert!(String::from_utf8_lossy(&forced.stderr).contains("mmx"));
}

fn checkpoint(run: &Path, step: usize) -> PathBuf {
    run.join(format!("checkpoints/step-{step:06}"))
}

#[test]
fn a_killed_run_ends_with_the_bits_of_one_that_was_not() {
    let folder = Folder::new();
    folder.prepare_run();
    let whole = folder.ok("rl run.toml --set run_dir=whole --threads 2");
    let mut child = folder
        .command("rl run.toml --threads 1")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    let start = Instant::now();
    while !checkpoint(&folder.at("run"), 5).exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(!folder.at("run/model").exists(), "killed before its end");
    let resumed = folder.ok("rl run.toml --resume --threads 2");
    let digest = |text: &str| text.rsplit(' ').next().map(str::to_owned);
    assert_eq!(digest(&whole), digest(&resumed));
    for file in ["model.safetensors", "optimizer.safetensors", "trainer.json"] {
        let bytes = |run: &str| fs::read(checkpoint(&folder.at(run), 40).join(file)).expect(file);
        assert_eq!(bytes("whole"), bytes("run"), "{file}");
    }
    let lines = folder.lines("run/metrics.jsonl");
    assert_eq!(
        lines.iter().map(|line| line["step"].as_u64()).collect::<Vec<_>>(),
        (1..=40).map(Some).collect::<Vec<_>>()
    );
    assert!(lines.iter().all(|line| line["log_prob_gap"] == 0.0));
    assert!(lines.iter().any(|line| line["grad_norm"] != 0.0), "something was learned from");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = Folder::new();
    folder.prepare_run();
    let config = fs::read_to_string(folder.at("model/config.json")).expect("a config");
    folder.write("small.json", &config.replace("\"vocab_size\": 15", "\"vocab_size\": 4"));
    folder.ok("model init --config small.json --out small");
    fs::copy(folder.at("model/tokenizer.json"), folder.at("small/tokenizer.json")).expect("copied");
    for verb in [
        "model init --config small.json --tokenizer model --out other",
        "model info small",
        "chat --model small",
        "eval --model small --data train.jsonl --max-new-tokens 2",
        "rl run.toml --set model=small",
        "rl run.toml --set model=small --plan",
    ] {
        let error = folder.refused(verb);
        assert!(error.contains("15 tokens") && error.contains("of another model"), "{verb}: {error}");
    }
}

#[test]
fn models_are_made_and_exported() {
    let folder = Folder::new();
    testkit::write_model(&folder.at("model"), 4).expect("a model");
    let made = folder.ok("model init --config model/config.json --tokenizer model --seed 7 --out fresh");
    assert!(made.contains("fresh: llama") && made.contains("licence: not stated"), "{made}");
    folder.ok("model init --config model/config.json --tokenizer model --seed 7 --out again");
    let bytes = |name: &str| fs::read(folder.at(name)).expect(name);
    assert_eq!(bytes("fresh/model.safetensors"), bytes("again/model.safetensors"));
    folder.ok("model export fresh --out half --type bf16");
    assert!(bytes("half/model.safetensors").len() < bytes("fresh/model.safetensors").len() * 2 / 3);
    folder.write("prompts.jsonl", "{\"prompt\": \"1+1\"}\n");
    folder.ok("generate --model half --input prompts.jsonl --out out.jsonl --max-new-tokens 2 --raw");
    assert_eq!(folder.lines("out.jsonl").len(), 1);

    folder.ok("model export fresh --out fp8 --type fp8");
    folder.ok("generate --model fp8 --input prompts.jsonl --out fp8.jsonl --max-new-tokens 2 --raw");
    assert_eq!(folder.lines("fp8.jsonl").len(), 1);
    assert!(folder.refused("model export fresh --gguf fp8.gguf --type fp8").contains("--out DIR"));

    let error = folder.refused("model export fresh --gguf fresh.gguf");
    assert!(error.contains("tokenizer.json") && error.contains("not byte-level BPE"), "{error}");
    assert!(folder.refused("model export fresh --out half").contains("exists"));
    assert!(folder.refused("model export fresh --out q --type q4_0").contains("--gguf FILE"));
    let mut pull = folder.command("model pull org/tiny --out pulled");
    let output = pull.env("HF_ENDPOINT", "http://127.0.0.1:9").output().expect("started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("cannot fetch http://127.0.0.1:9"), "{error}");
}

#[test]
fn a_run_is_viewed() {
    let folder = Folder::new();
    assert!(folder.refused("view nowhere").contains("no run at `nowhere`"));
    fs::create_dir(folder.at("run")).expect("a folder");
    assert!(folder.refused("view run").contains("not a run directory"));
    folder.write("run/metrics.jsonl", "{\"step\":1,\"loss\":0.5}\n");
    let mut viewer = folder.command("view run --port 0").stdout(Stdio::piped()).spawn().expect("started");
    let mut said = String::new();
    let stdout = viewer.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut said).expect("a line");
    let address = said.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect(&said).0;
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(stream, "GET /api/metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("received");
    assert!(answer.contains("\"rows\":[[1,0.5]]"), "{answer}");
    let port = address.rsplit(':').next().expect("a port");
    let taken = folder.refused(&format!("view run --port {port}"));
    assert!(taken.contains("--port 0") && taken.contains("because"), "{taken}");
    viewer.kill().expect("ended");
    viewer.wait().expect("ended");
}

/// Whoever reads what `koan` says may go away, at once or after a line: that is no failure, and ends no run.
#[test]
fn a_reader_who_goes_away_is_no_failure() {
    let folder = Folder::new();
    folder.prepare_run();
    folder.ok("generate --model model --input train.jsonl --max-new-tokens 2 --out drawn.jsonl");
    folder.write("judged.jsonl", "{\"answer\": 68, \"completion\": \"23 + 45 = 68\"}\n");
    folder.ok("data generate chain --n 4 --out chain.jsonl");
    for words in [
        "--help",
        "data generate --help",
        "data generate chain --n 3 --out more.jsonl",
        "data stats train.jsonl",
        "model info model",
        "model init --config model/config.json --out fresh",
        "generate --model model --input train.jsonl --max-new-tokens 2",
        "score --model model --input drawn.jsonl",
        "verify --input judged.jsonl --reward number",
        "verify --input judged.jsonl --reward number --show correct --json",
        "eval --model model --data train.jsonl --reward number --n 1 --max-new-tokens 2",
        "bench product --config model/config.json --rows 8 --repeats 1",
        "bench train --config model/config.json --sequences 1 --tokens 8 --steps 1",
        "bench generate --model model --sequences 1 --group 1 --prompt-tokens 2 --new-tokens 2 --runs 1",
        "bench rl --model model --problems 1 --group 2 --prompt-tokens 2 --new-tokens 2 --steps 1 --json",
        "rl run.toml --explain",
        "rl run.toml --plan",
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = folder.command(words).stdout(writer).stderr(Stdio::piped()).spawn().expect("started");
        let output = output.wait_with_output().expect("ended");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("error"), "koan {words}: {said}");
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let both = writer.try_clone().expect("a pipe");
    let mut run =
        folder.command("rl run.toml --set steps=2").stdout(writer).stderr(both).spawn().expect("started");
    assert!(run.wait().expect("ended").success());
    assert!(folder.at("run/model/model.safetensors").exists(), "the run went on to its end");
}

#[test]
fn a_judge_that_does_not_work_is_not_a_healthy_run() {
    let folder = Folder::new();
    folder.prepare_run();
    let config = fs::read_to_string(folder.at("run.toml")).expect("a config");
    let config = config.replace("problems = 8", "problems = 2").replace("group_size = 32", "group_size = 4");
    let judged_by = |judge: &str| {
        folder.write(
            "judge.py",
            &format!("import json, sys\nfor line in sys.stdin:\n  s = json.loads(line)\n  {judge}\n"),
        );
        let reward = "[[reward]]\nkind = 'external'\ncommand = ['python3', '-E', 'judge.py']\n";
        folder.write("run.toml", &format!("{config}{reward}"));
    };
    for command in
        ["['false']", "['python3', 'missing.py']", "['no-such-program']", "['sh', '-c', 'sleep 0.3; exit 3']"]
    {
        folder.write("run.toml", &format!("{config}[[reward]]\nkind = 'external'\ncommand = {command}\n"));
        let error = folder.refused("rl run.toml");
        assert!(
            error.contains("before anything was asked") || error.contains("can't start"),
            "{command}: {error}"
        );
        assert!(!folder.at("run").exists(), "nothing was begun");
    }
    // It starts, and judges nothing.
    for (steps, of) in [(40, 3), (2, 2)] {
        judged_by("print('null', flush=True)");
        let said = folder.refused(&format!("rl run.toml --set steps={steps} --set run_dir=vain-{steps}"));
        let lines =
            said.lines().filter(|line| line.contains("nothing was judged, so nothing was learned")).count();
        assert_eq!(lines, of - 1, "a line for each step but the one that ends the run: {said}");
        assert!(said.contains(&format!("no completion of the last {of} steps could be judged")), "{said}");
        assert!(!said.contains("accuracy") && !folder.at(&format!("vain-{steps}/model")).exists(), "{said}");
    }
    judged_by("raise KeyError('solution')");
    let error = folder.refused("rl run.toml --set run_dir=dies");
    assert!(error.contains("ended (exit status: 1)") && error.contains("KeyError: 'solution'"), "{error}");
}

#[test]
fn a_stray_line_of_a_judge_shifts_no_reward() {
    let folder = Folder::new();
    folder.prepare_run();
    let config = fs::read_to_string(folder.at("run.toml")).expect("a config");
    let config = config.replace("problems = 8", "problems = 2").replace("group_size = 32", "group_size = 4");
    let reward =
        "[[reward]]\nkind = 'external'\ncommand = ['python3', '-E', 'judge.py']\nmax_failures = 1000\n";
    folder.write("run.toml", &format!("{config}{reward}"));
    let value = "sum(map(ord, s['completion'])) / 1000";
    for (name, judge) in [
        ("late", format!("print({value}, flush=True)\n  print(7)")),
        ("ids", format!("print(json.dumps({{'id': s['id'], 'score': {value}}}), flush=True)")),
        (
            "both",
            format!(
                "print(json.dumps({{'id': s['id'], 'score': {value}}}), flush=True)\n  if s['truncated']: print(7, flush=True)"
            ),
        ),
    ] {
        folder.write(
            "judge.py",
            &format!("import json, sys\nfor line in sys.stdin:\n  s = json.loads(line)\n  {judge}\n"),
        );
        folder.ok(&format!("rl run.toml --set steps=2 --set run_dir={name} --threads 2"));
        let mut n_judged = 0;
        for step in 1..=2 {
            for line in folder.lines(&format!("{name}/rollouts/step-{step:06}.jsonl")) {
                let text = line["completion"].as_str().expect("text");
                let own = f64::from(text.chars().map(u32::from).sum::<u32>()) / 1000.0;
                if let Some(reward) = line["reward"].as_f64() {
                    assert!((reward - own).abs() < 1e-5, "{name}: {line}");
                    n_judged += 1;
                }
            }
        }
        assert!(n_judged >= 8, "{name}: {n_judged} judged");
    }
}

#[test]
fn tests_that_are_at_fault_are_named() {
    let folder = Folder::new();
    for (row, expected) in [
        (r#"{"prompt": "p", "tests": [{"stdin": "1"}], "completion": "x"}"#, "missing field `stdout`"),
        (r#"{"prompt": "p", "completion": "x"}"#, "the problem has no `tests`"),
        (
            r#"{"prompt": "p", "tests": [{"stdout": ""}], "completion": "x"}"#,
            "every `stdout` is empty, so an empty program would pass",
        ),
        (
            r#"{"prompt": "p", "tests": {"function": "f", "cases": [{"args": {"a": 1}, "returns": 123456789012345678901}]}, "completion": "x"}"#,
            "case 1: `args` is {\"a\": 1}; write an array",
        ),
    ] {
        folder.write("rows.jsonl", &format!("{row}\n"));
        let error = folder.refused("verify --input rows.jsonl --reward code");
        if error.contains("Nothing is run without it") {
            return; // programs can't be contained here
        }
        assert!(error.contains(expected) && !error.contains("has no `answer`"), "{row}: {error}");
    }
    folder.write("rows.jsonl", "{\"prompt\": \"p\", \"completion\": \"7\"}\n");
    assert!(folder.refused("verify --input rows.jsonl --reward number").contains("has no `answer`"));
    // Every digit counts.
    folder.write(
        "rows.jsonl",
        concat!(
            r#"{"prompt": "p", "tests": {"function": "f", "cases": [{"args": [123456789012345678901], "returns": 123456789012345678902}]},"#,
            r#" "completion": "```python\ndef f(x): return x + 1\n```", "expected": true}"#,
            "\n",
            r#"{"prompt": "p", "tests": {"function": "f", "cases": [{"args": [123456789012345678901], "returns": 123456789012345678902}]},"#,
            r#" "completion": "```python\ndef f(x): return x\n```", "expected": false}"#,
            "\n"
        ),
    );
    let report = folder.ok("verify --input rows.jsonl --reward code");
    assert!(report.contains("as expected: 2 of 2"), "{report}");
}
