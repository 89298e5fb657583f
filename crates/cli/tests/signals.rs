//! Signals, as schedulers, shells and people send them: what ends well, what ends at once, and that nothing is left.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use koan_model::testkit;
use serde_json::Value;

/// A folder with a tiny model and problems.
struct Folder(tempfile::TempDir);

/// A judge whose children are in sessions of their own, one with its parent alive and one without; it answers eight
/// requests and then waits for another such child. All write who they are into `pids`.
const JUDGE: &str = r"
echo $$ >> pids
setsid sh -c 'echo $$ >> pids; sleep 1000 & echo $! >> pids; wait' > /dev/null 2>&1 &
(setsid sh -c 'echo $$ >> pids; exec sleep 1000' > /dev/null 2>&1 &)
n=0
while read -r line; do
    n=$((n+1))
    if [ $n -gt 8 ]; then echo hangs > hangs; setsid sh -c 'echo $$ >> pids; exec sleep 1000'; fi
    echo 1
done
";

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        testkit::write_model(&folder.at("model"), 4).expect("a model");
        let words = "data generate arithmetic --n 40 --levels 1 --out train.jsonl";
        assert!(folder.koan(words).status().expect("started").success());
        let config = "run_dir = 'run'\nmodel = 'model'\ndata = 'train.jsonl'\nsteps = 400\ncheckpoint_every = 1000\n\
             [rollout]\nproblems = 8\ngroup_size = 32\nmax_new_tokens = 3\n[algorithm]\nkl = 0.0\n";
        fs::write(folder.at("run.toml"), config).expect("written");
        fs::write(folder.at("judge.sh"), JUDGE).expect("written");
        let judged = "[[reward]]\nkind = 'external'\ncommand = ['sh', 'judge.sh']\ntimeout_s = 1000\n";
        fs::write(folder.at("judged.toml"), [config, judged].concat()).expect("written");
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn koan(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.args(words.split_whitespace()).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn status(&self) -> Value {
        let text = fs::read_to_string(self.at("run/status.json")).expect("a status");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The processes that the judge told of and that still run.
    fn left(&self) -> Vec<String> {
        let pids = fs::read_to_string(self.at("pids")).unwrap_or_default();
        let runs = |pid: &&str| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
        };
        pids.lines().filter(runs).map(str::to_owned).collect()
    }
}

fn await_that(what: &str, at_most_s: u64, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(at_most_s), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
    assert!(sent.expect("started").success(), "{signal}");
}

/// How a process ends that should end soon.
fn end(mut child: Child, at_most: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("asked") {
            return status;
        }
        if start.elapsed() > at_most {
            child.kill().and_then(|()| child.wait()).expect("killed");
            panic!("it still ran after {at_most:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn n_lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn the_first_signal_of_each_kind_ends_a_run_well() {
    let folder = Folder::new();
    for (i, signal) in ["INT", "TERM", "HUP"].into_iter().enumerate() {
        let more = if i > 0 { " --resume" } else { "" };
        let before = n_lines(&folder.at("run/metrics.jsonl"));
        let child = folder.koan(&format!("rl run.toml{more}")).spawn().expect("started");
        await_that("a step", 60, || n_lines(&folder.at("run/metrics.jsonl")) > before);
        assert_eq!(folder.status()["state"], "running");
        send(&child, signal);
        assert!(end(child, Duration::from_secs(60)).success(), "{signal}");
        let (status, step) = (folder.status(), n_lines(&folder.at("run/metrics.jsonl")));
        assert_eq!(status["state"], "stopped", "{signal}");
        let message = status["message"].as_str().expect("a message");
        assert!(message.starts_with(&format!("interrupted after step {step};")), "{signal}: {message}");
        assert!(folder.at(&format!("run/checkpoints/step-{step:06}/trainer.json")).exists(), "{signal}");
    }
}

#[test]
fn the_second_signal_ends_a_run_within_a_second_whatever_a_judge_does_and_nothing_outlives_it() {
    for signal in ["INT", "TERM", "HUP"] {
        let folder = Folder::new();
        let child = folder.koan("rl judged.toml").spawn().expect("started");
        await_that("the judge hangs", 60, || folder.at("hangs").exists() && folder.left().len() == 5);
        send(&child, signal);
        thread::sleep(Duration::from_millis(200));
        send(&child, signal);
        let status = end(child, Duration::from_secs(1));
        assert!(!status.success() && status.code().is_none(), "{signal}: the signal ends it: {status}");
        await_that("no process is left", 1, || folder.left().is_empty());
        let status = folder.status();
        assert_eq!(status["state"], "stopped");
        let message = status["message"].as_str().expect("a message");
        assert!(message.starts_with(&format!("interrupted by SIG{signal}")), "{message}");
    }
}

#[test]
fn nothing_outlives_a_run_that_ends_fails_or_is_killed() {
    let folder = Folder::new();
    let judge = JUDGE.replace("-gt 8", "-gt 100000");
    fs::write(folder.at("judge.sh"), judge).expect("written");
    let words = "rl judged.toml --set steps=1 --set rollout.group_size=4 --set run_dir=ends";
    assert!(folder.koan(words).status().expect("started").success());
    assert!(n_lines(&folder.at("pids")) >= 3, "its children were there");
    await_that("no process is left", 1, || folder.left().is_empty());

    fs::write(folder.at("judge.sh"), JUDGE).expect("written");
    let child = folder.koan("rl judged.toml").spawn().expect("started");
    await_that("the judge hangs", 60, || folder.at("hangs").exists() && folder.left().len() == 5);
    thread::sleep(Duration::from_millis(1200)); // the keeper looks every second
    send(&child, "KILL");
    end(child, Duration::from_secs(1));
    await_that("no process is left", 3, || folder.left().is_empty());
}

#[test]
fn what_was_there_before_is_left_alone() {
    let folder = Folder::new();
    let words = format!("sleep 1000 & echo $! >> pids; exec {} rl judged.toml", env!("CARGO_BIN_EXE_koan"));
    let mut command = Command::new("sh");
    command.args(["-c", &words]).current_dir(folder.0.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("started");
    await_that("the judge hangs", 60, || folder.at("hangs").exists() && folder.left().len() == 6);
    for _ in 0..2 {
        send(&child, "TERM");
        thread::sleep(Duration::from_millis(100));
    }
    end(child, Duration::from_secs(1));
    await_that("the judge has gone", 1, || folder.left().len() == 1);
    let others = folder.left();
    assert!(Command::new("kill").arg(&others[0]).status().expect("started").success());
}

#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let folder = Folder::new();
    let mut command = Command::new("sh");
    let words = format!("trap '' HUP; exec {} rl run.toml --set steps=1000000", env!("CARGO_BIN_EXE_koan"));
    command.args(["-c", &words]).current_dir(folder.0.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("started");
    let metrics = folder.at("run/metrics.jsonl");
    await_that("a step", 60, || n_lines(&metrics) > 0);
    send(&child, "HUP");
    let before = n_lines(&metrics);
    await_that("more steps", 60, || n_lines(&metrics) > before + 3);
    assert_eq!(folder.status()["state"], "running");
    send(&child, "TERM");
    assert!(end(child, Duration::from_secs(60)).success());
}

#[test]
fn what_is_half_written_is_removed_by_the_first_signal_of_work_that_cannot_go_on_later() {
    let folder = Folder::new();
    let words = "generate --model model --input train.jsonl --n 20000 --max-new-tokens 200 --temperature 1 --out out.jsonl";
    let child = folder.koan(words).spawn().expect("started");
    await_that("begun", 60, || folder.at(".out.jsonl.part").exists());
    send(&child, "TERM");
    let status = end(child, Duration::from_secs(1));
    assert!(status.code().is_none(), "{status}");
    assert!(!folder.at(".out.jsonl.part").exists() && !folder.at("out.jsonl").exists());
}

#[test]
fn the_status_of_a_run_is_true_after_a_full_disk() {
    let folder = Folder::new();
    let limited = |limit: &str, words: &str| {
        let words = format!("trap '' XFSZ; ulimit -f {limit}; exec {} {words}", env!("CARGO_BIN_EXE_koan"));
        let mut command = Command::new("sh");
        command.args(["-c", &words]).current_dir(folder.0.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("started")
    };
    assert_eq!(limited("8", "rl run.toml").code(), Some(1), "rollouts are longer than 4 kB");
    let status = folder.status();
    assert_eq!(status["state"], "failed");
    assert!(status["message"].as_str().is_some_and(|m| m.contains("cannot write")), "{status}");
}
