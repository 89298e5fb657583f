//! Several ranks make the run of one, to the bit.

use std::{path::Path, sync::atomic::AtomicBool, thread};

use koan_cpu::{Cpu, Isa};
use koan_train::{
    TrainError,
    comm::{Ranks, threads},
    rl::{self, RlConfig},
    stage::{Launch, RunSummary},
};

use crate::tiny_run::{TinyRun, metrics, rollouts, run};

type Ended = Vec<Result<RunSummary, TrainError>>;

/// Runs a config on each rank, threads of this process; all of them the same, as a rule.
fn on_ranks(configs: &[&RlConfig], resume: bool) -> Ended {
    thread::scope(|scope| {
        let start = |(ranks, config): (Ranks, &'_ &RlConfig)| {
            let config: RlConfig = (*config).clone();
            scope.spawn(move || {
                let cpu = Cpu::new(Isa::best(), 1).expect("a processor");
                let launch = Launch { resume, threads: 1, stop: &AtomicBool::new(false), ranks: &ranks };
                let ended = rl::run(&cpu, &config, launch, |_| {});
                if let Err(error) = &ended {
                    ranks.end(&error.to_string());
                }
                ended
            })
        };
        let all: Vec<_> = threads(configs.len()).into_iter().zip(configs).map(start).collect();
        all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn digest(ended: Ended) -> String {
    let digests: Vec<String> = ended.into_iter().map(|run| run.expect("runs").digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    digests[0].clone()
}

/// Metrics without what only several ranks have, and what depends on which sequences are sampled together.
fn common_metrics(dir: &Path) -> Vec<serde_json::Value> {
    let mut lines = metrics(dir);
    for line in &mut lines {
        let batched = ["slowest_rank", "flops", "draft_acceptance", "tokens_per_pass"];
        line.as_object_mut().expect("an object").retain(|key, _| !batched.contains(&&**key));
    }
    lines
}

/// The number of problems is no multiple of that of shards; the group size none of that of sequences.
const SET: [&str; 5] =
    ["shards=4", "rollout.problems=6", "rollout.group_size=8", "rollout.sequences=5", "optim.lr=1e-2"];

#[test]
fn ranks_make_the_run_of_one() {
    let dapo = ["algorithm.preset=dapo", "algorithm.max_rounds=3", "rollout.drafts=text"];
    for (name, more) in [("grpo", &[][..]), ("dapo", &dapo)] {
        let tiny = TinyRun::new();
        let set = [&SET[..], more].concat();
        let alone = tiny.config(&format!("{name}-1"), &set);
        let want = run(&alone, 2, false).expect("runs").digest;
        let lines = common_metrics(&alone.stage.run_dir);
        assert!(lines[1..].iter().all(|line| line["log_prob_gap"] == 0.0), "{lines:?}");
        for ranks in [2, 4] {
            let config = tiny.config(&format!("{name}-{ranks}"), &set);
            assert_eq!(digest(on_ranks(&vec![&config; ranks], false)), want, "{name} on {ranks} ranks");
            assert_eq!(common_metrics(&config.stage.run_dir), lines, "{name} on {ranks} ranks");
            assert_eq!(rollouts(&config.stage.run_dir), rollouts(&alone.stage.run_dir));
            let waited = metrics(&config.stage.run_dir)[1]["slowest_rank"].as_u64();
            assert!(waited.is_some_and(|rank| rank < ranks as u64));
        }
    }
}

#[test]
fn a_run_goes_on_on_another_number_of_ranks() {
    let tiny = TinyRun::new();
    let want = run(&tiny.config("whole", &SET), 2, false).expect("runs").digest;
    for (first, then) in [(4, 2), (1, 4)] {
        let name = format!("from-{first}");
        let shorter = tiny.config(&name, &[&SET[..], &["steps=2"]].concat());
        digest(on_ranks(&vec![&shorter; first], false));
        let whole = tiny.config(&name, &SET);
        assert_eq!(digest(on_ranks(&vec![&whole; then], true)), want);
    }
}

#[test]
fn ranks_that_do_not_fit_each_other_are_refused_by_name() {
    let tiny = TinyRun::new();
    let said = |ended: Ended| -> Vec<String> {
        ended.into_iter().map(|run| run.expect_err("refused").to_string()).collect()
    };
    let (config, other) = (tiny.config("run", &SET), tiny.config("run", &[&SET[..], &["seed=8"]].concat()));
    let errors = said(on_ranks(&[&config, &config, &other, &config], false));
    assert!(
        errors.iter().any(|error| error.starts_with("rank 2 has another config than rank 0")),
        "{errors:?}"
    );
    assert!(!config.stage.run_dir.exists(), "nothing was written");

    let two = tiny.config("two", &[&SET[..], &["shards=2"]].concat());
    let errors = said(on_ranks(&[&two; 4], false));
    assert!(errors[0].contains("4 ranks need at least as many shards, and `shards` is 2"), "{errors:?}");

    // A rank that can't begin ends all others.
    let without = tiny.config("run", &[&SET[..], &["data=nowhere.jsonl"]].concat());
    let errors = said(on_ranks(&[&config, &without], false));
    assert!(errors[0].contains("rank 1 has ended:") && errors[0].contains("nowhere.jsonl"), "{errors:?}");
    assert!(!errors[1].contains("rank"), "{errors:?}");
}
