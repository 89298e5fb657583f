//! Runs of several processes on MPI. Where there is no `mpirun` these tests say "skipped".

#![cfg(all(unix, feature = "mpi"))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use koan_model::testkit;

/// A folder with a tiny model, data and configs.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        testkit::write_model(&bench.at("model"), 4).expect("a model");
        let problem =
            |i: u32| format!("{{\"id\": \"{i}\", \"prompt\": \"{i} + 1\", \"answer\": \"{}\"}}\n", i + 1);
        let reply = |i: u32| format!("{{\"prompt\": \"{i} + 1\", \"completion\": \"{}.\"}}\n", i + 1);
        let lines = |line: &dyn Fn(u32) -> String| (1..30).map(line).collect::<String>();
        fs::write(bench.at("problems.jsonl"), lines(&problem)).expect("written");
        fs::write(bench.at("replies.jsonl"), lines(&reply)).expect("written");
        let of_all = "model = 'model'\nshards = 4\nsteps = 4\ncheckpoint_every = 2\n";
        let rl = "data = 'problems.jsonl'\n[rollout]\nproblems = 6\ngroup_size = 8\nmax_new_tokens = 4\n[optim]\nlr = 1e-2\n";
        let sft = "data = 'replies.jsonl'\nbatch_tokens = 64\nmax_tokens = 16\n[optim]\nlr = 1e-2\n";
        for (name, own) in [("rl", rl), ("sft", sft)] {
            fs::write(bench.at(&format!("{name}.toml")), format!("run_dir = 'run'\n{of_all}{own}"))
                .expect("written");
        }
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `koan WORDS` on so many processes.
    fn koan(&self, ranks: usize, words: &str) -> Command {
        let mut command = if ranks == 1 { Command::new(koan()) } else { mpirun(ranks) };
        command.args(words.split(' ')).current_dir(self.folder.path());
        command
    }

    fn run(&self, ranks: usize, words: &str) -> Output {
        let output = self.koan(ranks, words).output().expect("it starts");
        assert!(output.status.success(), "{words} on {ranks}: {}", said(&output));
        output
    }

    /// The digest of the last checkpoint of a run.
    fn digest(&self, run: &str) -> Vec<u8> {
        fs::read(self.at(run).join("checkpoints/step-000004/SHA256SUMS")).expect("a checkpoint")
    }
}

fn koan() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_koan"))
}

/// `mpirun -n RANKS koan`, on machines with fewer cores and for root too.
fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command.args(["-n", &ranks.to_string()]).arg(koan());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether there is an MPI; says "skipped" if not.
fn is_there() -> bool {
    let found =
        Command::new("mpirun").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !found {
        eprintln!("skipped: there is no mpirun");
    }
    found
}

#[test]
fn processes_make_the_run_of_one() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    for verb in ["rl", "sft"] {
        let run = |name: &str, ranks| {
            let name = format!("{verb}-{name}");
            let output = bench.run(ranks, &format!("{verb} {verb}.toml --threads 1 --set run_dir={name}"));
            let digest = bench.digest(&name);
            let said = said(&output);
            assert_eq!(said.matches("the model is in").count(), 1, "rank 0 alone speaks: {said}");
            digest
        };
        let want = run("alone", 1);
        assert!(run("on-2", 2) == want && run("on-4", 4) == want, "{verb}");
    }
}

#[test]
fn a_process_that_is_killed_ends_the_others_and_the_run_goes_on() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    bench.run(1, "rl rl.toml --threads 1 --set run_dir=whole");
    let long = "rl rl.toml --threads 1 --set steps=100000 --set checkpoint_every=2";
    let mut command = bench.koan(2, long);
    let mut mpirun = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for(&mut mpirun, &bench.at("run/checkpoints/step-000002"));
    let ranks = processes(&mpirun);
    assert_eq!(ranks.len(), 2, "{ranks:?}");
    let killed = Command::new("kill").args(["-9", &ranks[1].to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    let start = Instant::now();
    let ended = mpirun.wait_with_output().expect("it ends");
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
    assert!(!ended.status.success());
    // The launcher does not wait for those that it kills.
    let is_left = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    while ranks.iter().any(is_left) {
        assert!(start.elapsed() < Duration::from_secs(30), "processes are left: {ranks:?}");
        thread::sleep(Duration::from_millis(50));
    }
    // Whoever notices first says so: the launcher, or the other rank.
    let said = said(&ended);
    assert!(said.contains("rank 1") || said.contains("BAD TERMINATION"), "{said}");

    let newest = fs::read_dir(bench.at("run/checkpoints")).expect("checkpoints");
    let steps = newest
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse::<u64>().ok());
    let made = steps.max().expect("a checkpoint");
    let steps = 2 * made;
    bench.run(4, &format!("rl rl.toml --threads 1 --resume --set steps={steps}"));
    bench.run(1, &format!("rl rl.toml --threads 1 --resume --set run_dir=whole --set steps={steps}"));
    let last = format!("checkpoints/step-{steps:06}/SHA256SUMS");
    let digest = |run: &str| fs::read(bench.at(run).join(&last)).expect("a checkpoint");
    assert!(digest("run") == digest("whole"), "after step {made}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let refused = |ranks, words: &str| {
        let start = Instant::now();
        let output = bench.koan(ranks, words).output().expect("it starts");
        assert!(!output.status.success(), "{words}: {}", said(&output));
        assert!(start.elapsed() < Duration::from_secs(30), "{words}: {:?}", start.elapsed());
        said(&output)
    };
    let words = refused(2, "eval --model model --data problems.jsonl");
    assert!(
        words.contains("mpirun has started 2 processes, and this command is one process's work"),
        "{words}"
    );
    let words = refused(8, "sft sft.toml");
    assert!(words.contains("8 ranks need at least as many shards, and `shards` is 4"), "{words}");
    let words = refused(2, "sft sft.toml --device reference");
    assert!(words.contains("the reference device computes on one rank alone"), "{words}");

    // Of two commands, with other settings.
    let mut command = mpirun(1);
    command
        .args(["sft", "sft.toml", ":", "-n", "1"])
        .arg(koan())
        .args(["sft", "sft.toml", "--set", "seed=3"]);
    let output = command.current_dir(bench.folder.path()).output().expect("it starts");
    let words = said(&output);
    assert!(!output.status.success() && words.contains("rank 1 has another config than rank 0"), "{words}");
    assert!(!bench.at("run").exists(), "nothing was written");
}

/// Waits until `path` is there.
fn wait_for(child: &mut Child, path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        let ended = child.try_wait().expect("it is known");
        assert!(
            ended.is_none() && start.elapsed() < Duration::from_secs(120),
            "{ended:?}: {}",
            path.display()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// The processes of koan below a launcher, which may have processes between, in the order of their ranks.
fn processes(launcher: &Child) -> Vec<u32> {
    let read = |pid: u32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let parent = |pid: u32| {
        let status = read(pid, "status");
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok())
    };
    let is_below =
        |pid: u32| std::iter::successors(Some(pid), |&pid| parent(pid)).any(|pid| pid == launcher.id());
    let rank = |pid: u32| {
        let variables = read(pid, "environ");
        let variable =
            |name: &str| variables.split('\0').find_map(|v| v.strip_prefix(name)?.parse::<u32>().ok());
        variable("OMPI_COMM_WORLD_RANK=").or_else(|| variable("PMI_RANK="))
    };
    let all =
        fs::read_dir("/proc").expect("processes").filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let is_koan = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == koan());
    let mut ranks: Vec<(u32, u32)> =
        all.filter(|&pid| is_koan(pid) && is_below(pid)).filter_map(|pid| Some((rank(pid)?, pid))).collect();
    ranks.sort_unstable();
    // A rank may have a process of its own that ends what it leaves behind.
    ranks.dedup_by_key(|(rank, _)| *rank);
    ranks.into_iter().map(|(_, pid)| pid).collect()
}
