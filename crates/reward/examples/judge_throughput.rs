//! How many programs are judged in a second: `cargo run --release -p koan-reward --example judge_throughput`.
//!
//! Trivial programs, so that what is measured is the judging. One line a kind of test, as JSON.

use koan_reward::Outcome;
use koan_reward::code::{Judge, Options, Tests};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::{Duration, Instant};

/// How long each kind is judged.
const MEASURED: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let judge = Judge::new(&Options::default())?;
    println!(r#"{{"start_and_self_test_s": {:.3}}}"#, start.elapsed().as_secs_f64());

    let stream = r#"[{"stdin": "1 2", "stdout": "3"}]"#.to_owned();
    let streams = format!("[{}]", [r#"{"stdin": "1 2", "stdout": "3"}"#; 10].join(","));
    let call = r#"{"function": "add", "cases": [{"args": [1, 2], "returns": 3}]}"#.to_owned();
    let printing = "```python\na, b = map(int, input().split())\nprint(a + b)\n```";
    let adding = "```python\ndef add(a, b):\n    return a + b\n```";
    for (kind, tests, completion) in
        [("one stream", stream, printing), ("ten streams", streams, printing), ("one call", call, adding)]
    {
        let tests = Tests::parse(&serde_json::Map::from_iter([("tests".to_owned(), tests.into())]))?;
        let n_threads = available_parallelism()?.get();
        let (n_judged, n_wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Instant::now();
        scope(|scope| {
            for _ in 0..n_threads {
                scope.spawn(|| {
                    while start.elapsed() < MEASURED {
                        let verdict = judge.judge(completion, &tests);
                        n_judged.fetch_add(1, Ordering::Relaxed);
                        n_wrong
                            .fetch_add(usize::from(verdict.outcome != Outcome::Correct), Ordering::Relaxed);
                    }
                });
            }
        });
        let (n_judged, n_wrong) = (n_judged.into_inner(), n_wrong.into_inner());
        let programs_per_s = n_judged as f64 / start.elapsed().as_secs_f64();
        println!(
            r#"{{"kind": "{kind}", "threads": {n_threads}, "programs_per_s": {programs_per_s:.1}, "tests_per_s": {:.1}, "not_correct": {n_wrong}}}"#,
            programs_per_s * tests.n_tests() as f64
        );
    }
    Ok(())
}
