//! A reward of kind `judge` asks this server as it stands.

mod common;

use common::{Options, Served};
use koan_reward::{Context, NoModels, Outcome, Problem, RewardConfig, Rewards, Sample, Unsettled};

#[test]
fn a_reward_of_kind_judge_is_answered() {
    let server = Served::start(Options { context: 4000, ..Options::default() });
    let url = format!("url=\"http://{}/v1\"", server.address);
    let sets = [url, "model=\"koan-tiny\"".into(), "max_new_tokens=8".into(), "retries=0".into()];
    let config = RewardConfig::parse("judge", &sets).expect("options");
    let rewards = Rewards::build(&[config], Context::default()).expect("built");
    let problem = Problem { prompt: Some("3 + 4?".into()), answer: "7".into(), ..Problem::default() };
    let sample = Sample::new(&problem, "It is seven.");
    let mut judgement = rewards.judge(&sample);
    let mut unsettled = [Unsettled { sample, group: 0, judgement: &mut judgement }];
    rewards.settle(&NoModels, &mut unsettled, false).expect("asked");
    // It is a random model, so what it says is no grade; but it was heard.
    let term = &judgement.terms[0];
    assert_eq!(term.outcome, Outcome::Undecided, "{}", term.reason);
    assert!(!term.reason.contains("status") && !term.reason.contains("not asked"), "{}", term.reason);
    let metrics = server.get("/metrics").1;
    let none = "koan:request_success_total{model_name=\"koan-tiny\",finished_reason=\"length\"} 0";
    assert!(!metrics.contains(none), "{metrics}");
}
