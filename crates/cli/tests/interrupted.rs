//! Whatever stops `koan rl`, it goes on to the bits of a run that was never stopped: killed at random moments, out of disk,
//! out of a directory to write to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use koan_files::checksums;
use koan_model::testkit;

/// A folder with a tiny model, problems, and a config with all that has state: a reference policy that follows the policy,
/// problems drawn again, held-out measurements, schedules.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        testkit::write_model(&folder.at("model"), 4).expect("a model");
        for words in ["--n 20 --out train.jsonl", "--n 4 --split test --out test.jsonl"] {
            let output = folder.koan(&format!("data generate arithmetic --levels 1 {words}")).output();
            let output = output.expect("started");
            assert!(output.status.success(), "{}", said(&output));
        }
        let config = "run_dir = 'run'\nmodel = 'model'\ndata = 'train.jsonl'\nsteps = 12\ncheckpoint_every = 2\n\
             [rollout]\nproblems = 3\ngroup_size = 16\nmax_new_tokens = 3\nlog_probs = true\n\
             [algorithm]\nkl = 0.02\nreference_every = 3\nmini_batches = 2\ndynamic_sampling = true\nmax_rounds = 2\n\
             [optim]\nlr = 1e-3\nschedule = 'cosine'\nwarmup_steps = 3\nmicro_batch_tokens = 64\n\
             [eval]\ndata = 'test.jsonl'\nevery = 3\n";
        fs::write(folder.at("run.toml"), config).expect("written");
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn koan(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
        command.args(words.split_whitespace());
        self.quiet(command)
    }

    /// `koan` under limits that a shell sets before it.
    fn limited(&self, limits: &str, words: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits}; exec {} {words}", env!("CARGO_BIN_EXE_koan"))]);
        self.quiet(command)
    }

    fn quiet(&self, mut command: Command) -> Command {
        command.current_dir(self.0.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end, and gives the digest of the last checkpoint.
    fn finish(&self, words: &str) -> String {
        let output = self.koan(words).output().expect("started");
        assert!(output.status.success(), "koan {words}: {}", said(&output));
        let text = String::from_utf8(output.stdout).expect("text");
        let (_, digest) = text.trim().rsplit_once("sha256 ").expect("a digest");
        digest.to_owned()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether the run in `dir` ever began: then it is gone on with.
fn resume(dir: &Path) -> &'static str {
    if dir.join("config.toml").exists() { " --resume" } else { "" }
}

/// The checkpoints of the run in `dir`, each of which must be whole, by their steps.
fn checkpoints(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir.join("checkpoints")) else { return Vec::new() };
    let mut steps = Vec::new();
    for entry in entries {
        let path = entry.expect("read").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        if let Some(step) = name.strip_prefix("step-") {
            checksums::check(&path, "trainer.json").expect("whole");
            steps.push(step.parse().expect("a step"));
        }
    }
    steps.sort_unstable();
    steps
}

#[test]
fn killed_twenty_times_at_random_it_ends_as_if_it_never_was() {
    let folder = Folder::new();
    let start = Instant::now();
    let want = folder.finish("rl run.toml --set run_dir=whole --threads 2");
    let whole_ms = start.elapsed().as_millis() as u64;
    let (mut kills, mut runs, mut i) = (0, 0, 0);
    while kills < 20 {
        let run = format!("run-{runs}");
        let dir = folder.at(&run);
        let words = format!("rl run.toml --set run_dir={run} --threads {}{}", 1 + i % 2, resume(&dir));
        let mut child =
            folder.koan(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
        // Up to two thirds of a run, so that some lives make nothing, most some steps, and some reach the end.
        let share = testkit::random(11, i) + 0.5;
        std::thread::sleep(Duration::from_millis((share * whole_ms as f32 * 0.67) as u64));
        let ended = child.try_wait().expect("asked").is_some();
        child.kill().expect("killed");
        child.wait().expect("gone");
        i += 1;
        checkpoints(&dir);
        if ended {
            let words = format!("rl run.toml --set run_dir={run} --resume");
            let again = folder.koan(&words).output().expect("started");
            assert!(again.status.success(), "what ended can be asked to go on: {}", said(&again));
            assert_eq!(checksum(&dir), want, "after {kills} kills");
            runs += 1;
        } else {
            kills += 1;
        }
    }
    let (run, dir) = (format!("run-{runs}"), folder.at(&format!("run-{runs}")));
    folder.koan(&format!("rl run.toml --set run_dir={run}{}", resume(&dir))).output().expect("started");
    assert_eq!(checksum(&dir), want);
    let left = |dir: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(dir).expect("there").map(|e| e.expect("read").file_name()).collect();
        names.sort();
        names
    };
    for part in ["", "checkpoints", "rollouts", "model"] {
        assert_eq!(left(&dir.join(part)), left(&folder.at("whole").join(part)), "no stray file in {part}/");
    }
}

/// The digest of the last checkpoint: the SHA-256 of its list of checksums.
fn checksum(dir: &Path) -> String {
    let list = dir.join("checkpoints/step-000012/SHA256SUMS");
    koan_files::hash_file(&list).expect("a whole run")
}

#[test]
fn a_full_disk_ends_a_run_and_harms_nothing() {
    let folder = Folder::new();
    let rl = |run: &str, more: &str| {
        format!("rl run.toml --set optim.schedule=constant --set run_dir={run} {more}")
    };
    let want = folder.finish(&rl("whole", ""));
    let bytes = |name: &str| fs::metadata(folder.at("whole").join(name)).expect(name).len();
    let (weights, rollouts) = (bytes("model/model.safetensors"), bytes("rollouts/step-000005.jsonl"));
    // A file may have at most so many blocks of 512 bytes; a write beyond that fails, as on a full disk.
    for (run, bytes, file) in [
        ("rollouts", rollouts / 2, "rollouts/step-000005.jsonl"),
        ("checkpoint", weights + weights / 2, "optimizer.safetensors"),
    ] {
        let dir = folder.at(run);
        folder.finish(&rl(run, "--set steps=4"));
        let limits = format!("trap '' XFSZ; ulimit -f {}", bytes / 512);
        let output = folder.limited(&limits, &rl(run, "--resume")).output().expect("started");
        let error = said(&output);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(file) && error.contains("File too large"), "{error}");
        assert_eq!(checkpoints(&dir), [2, 4], "what was there is whole");
        let hash = |name: &str| koan_files::hash_file(&dir.join(name)).expect(name);
        assert_eq!(hash("model/model.safetensors"), hash("checkpoints/step-000004/model.safetensors"));
        assert_eq!(folder.finish(&rl(run, "--resume")), want, "room again");
    }
}

#[test]
fn what_can_not_be_written_is_named_before_any_work() {
    let folder = Folder::new();
    fs::write(folder.at("file"), "").expect("written");
    for dir in ["/proc/run", "file/run"] {
        let output = folder.koan(&format!("rl run.toml --set run_dir={dir}")).output().expect("started");
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(&format!("cannot create `{dir}")), "{}", said(&output));
    }
}

#[test]
fn a_plan_starts_nothing_and_says_what_does_not_fit() {
    let folder = Folder::new();
    fs::remove_file(folder.at("model/model.safetensors")).expect("there");
    let plan = |more: &str| {
        let output = folder.koan(&format!("rl run.toml --plan {more}")).output().expect("started");
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let fits = plan("");
    for word in ["\nmemory ", "\ndisk ", "\ntime ", "an estimate", "1 to 2"] {
        assert!(fits.contains(word), "{word}: {fits}");
    }
    assert!(!fits.contains("does not fit"), "{fits}");
    let huge = plan("--set rollout.problems=1000000 --set rollout.group_size=60000");
    assert!(huge.contains("it does not fit here: it needs") && huge.contains("GiB of memory"), "{huge}");
    assert!(!folder.at("run").exists());
}
