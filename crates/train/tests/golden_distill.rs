//! Divergences, gradients and steps of `distill` against the numbers of PyTorch and TRL, where the fixtures lie beside the
//! project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use koan_backend::{Backend, MomentType, Reference};
use koan_cpu::{Cpu, Isa};
use koan_generate::{Completion, FinishReason};
use koan_model::{Model, Purpose, checkpoint};
use koan_train::{
    distill::{Algorithm, Learner},
    optim::{OptimConfig, Optimizer},
    rl::{
        learner::{Learner as PolicyLearner, ScoredGroup},
        policy_loss::{Aggregation, Credit, PolicyLoss, Ratio, Surrogate},
    },
    supervised::next_token::{NextToken, Text},
};
use serde_json::Value;

/// How near a backend comes, relative.
#[derive(Clone, Copy)]
struct Near {
    value: f64,
    after_steps: f64,
}

const EXACT: Near = Near { value: 1e-8, after_steps: 1e-6 };
const SINGLE: Near = Near { value: 1e-5, after_steps: 1e-4 };

/// The fixture: a teacher, a student, and rows of token ids.
struct Fixture {
    dir: PathBuf,
    expected: Value,
    rows: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Fixture {
    fn open() -> Option<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stages/distill");
        if !dir.is_dir() {
            println!("skipped: no fixtures beside the project");
            return None;
        }
        let text = |name: &str| fs::read_to_string(dir.join(name)).expect("a fixture");
        let json = |text: &str| serde_json::from_str::<Value>(text).expect("a fixture");
        let row = |line: &str| {
            let row = json(line);
            (ids(&row["prompt_ids"]), ids(&row["completion_ids"]))
        };
        let rows = text("rows.jsonl").lines().map(row).collect();
        Some(Self { expected: json(&text("expected.json")), rows, dir })
    }

    fn texts(&self) -> Vec<Text<'_>> {
        self.rows.iter().map(|(context, tokens)| Text { context, tokens }).collect()
    }

    fn student<B: Backend>(&self, b: &B) -> (Model<B>, Optimizer<B>) {
        let model = checkpoint::load(b, &self.dir.join("student"), Some(64)).expect("a fixture");
        let optimizer = Optimizer::new(b, model.config(), MomentType::F32).expect("memory");
        (model, optimizer)
    }

    fn learner<B: Backend>(&self, b: &B, settings: &str) -> Learner<B> {
        let algorithm: Algorithm = toml::from_str(settings).expect("settings");
        let (student, optimizer) = self.student(b);
        let teacher =
            checkpoint::load_for_inference(b, &self.dir.join("teacher"), Some(64)).expect("a fixture");
        Learner::new(b, student, optimizer, teacher, algorithm.divergence(), 64, &optim()).expect("memory")
    }
}

fn optim() -> OptimConfig {
    OptimConfig { lr: 1e-3, grad_clip: 1e30, ..OptimConfig::default() }
}

fn ids(value: &Value) -> Vec<u32> {
    floats(value).into_iter().map(|id| id as u32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn check(what: &str, found: f64, wanted: &Value, near: f64) {
    let wanted = wanted.as_f64().expect("a number");
    let error = (found / wanted - 1.0).abs();
    assert!(error < near, "{what} is {found}, wanted {wanted}: {error:.1e} off");
}

fn divergences<B: Backend>(b: &B, fixture: &Fixture, near: Near) {
    let expected = &fixture.expected;
    let mut all = Vec::new();
    for temperature in [1, 2] {
        for name in ["forward", "reverse", "jsd-0.1", "jsd-0.5", "jsd-0.9"] {
            let (divergence, beta) =
                name.split_once('-').map_or((name, String::new()), |(n, beta)| (n, format!("beta = {beta}")));
            let settings = format!("temperature = {temperature}.0\ndivergence = '{divergence}'\n{beta}");
            all.push((settings, &expected["divergences"][format!("{name} T={temperature}")]));
        }
    }
    for (form, key) in [("renormalised", "renormalised"), ("with-rest", "with_rest")] {
        let settings = format!("top_k = 8\ntop_k_form = '{form}'");
        all.push((settings, &expected["top_8_forward_T=1"][key]));
    }
    for (settings, wanted) in all {
        let mut learner = fixture.learner(b, &settings);
        for (i, (prompt, completion)) in fixture.rows.iter().enumerate() {
            for t in 0..completion.len() {
                let context = [prompt, &completion[..t]].concat();
                let one = [Text { context: &context, tokens: &completion[t..=t] }];
                let loss = learner.loss(b, &one).expect("memory");
                check(
                    &format!("{settings}: token {t} of row {i}"),
                    loss,
                    &wanted["per_token"][i][t],
                    near.value,
                );
            }
        }
        let update = learner.update(b, &fixture.texts(), &optim(), 0.0).expect("finite");
        check(&format!("{settings}: the loss"), update.loss, &wanted["loss"], near.value);
        check(&format!("{settings}: the norm"), update.grad_norm, &wanted["grad_norm"], near.value);
    }
}

fn steps<B: Backend>(b: &B, fixture: &Fixture, near: Near) {
    for name in ["forward", "reverse"] {
        let wanted = &fixture.expected[format!("{name}_three_steps")];
        let losses = &wanted["loss_before_each_step_and_after_last"];
        let mut learner = fixture.learner(b, &format!("divergence = '{name}'"));
        for i in 0..3 {
            let update = learner.update(b, &fixture.texts(), &optim(), 1e-3).expect("finite");
            check(&format!("{name}, loss {i}"), update.loss, &losses[i], near.after_steps);
            let norm = &wanted["grad_norm_of_each_step_before_clipping"][i];
            check(&format!("{name}, norm {i}"), update.grad_norm, norm, near.after_steps);
        }
        let last = learner.loss(b, &fixture.texts()).expect("memory");
        check(&format!("{name}, the last loss"), last, &losses[3], near.after_steps);
    }
}

fn samples<B: Backend>(b: &B, fixture: &Fixture, near: Near) {
    let (student, optimizer) = fixture.student(b);
    let mut learner = NextToken::new(b, student, optimizer, 64, &optim()).expect("memory");
    let update = learner.update(b, &fixture.texts(), &optim(), 0.0).expect("finite");
    let wanted = &fixture.expected["sequence_level"];
    check("the loss of samples", update.loss, &wanted["loss"], near.value);
    check("its norm", update.grad_norm, &wanted["grad_norm"], near.value);
}

fn on_policy<B: Backend>(b: &B, fixture: &Fixture, near: Near) {
    let (student, optimizer) = fixture.student(b);
    let loss = PolicyLoss {
        ratio: Ratio::Token,
        surrogate: Surrogate::Weight,
        clip_low: 0.0,
        clip_high: 0.0,
        aggregation: Aggregation::TokenMean,
        kl: 0.0,
        max_tokens: 64,
    };
    let mut learner = PolicyLearner::new(student, None, optimizer, loss, 1.0, 64, Purpose::Training);
    let wanted = &fixture.expected["on_policy_sampled_reverse_kl"];
    let data: Vec<(Completion, Vec<f64>)> = fixture
        .rows
        .iter()
        .enumerate()
        .map(|(i, (_, completion))| {
            let old =
                floats(&fixture.expected["student_log_probs"][i]).into_iter().map(|p| p as f32).collect();
            let completion = Completion {
                token_ids: completion.clone(),
                log_probs: old,
                full_log_probs: Vec::new(),
                finish_reason: FinishReason::Stop,
            };
            (completion, floats(&wanted["advantages"][i]))
        })
        .collect();
    let groups: Vec<ScoredGroup> = fixture
        .rows
        .iter()
        .zip(&data)
        .enumerate()
        .map(|(place, ((prompt, _), (completion, advantages)))| ScoredGroup {
            prompt,
            place,
            completions: vec![(completion, Some(Credit::Tokens(advantages)))],
        })
        .collect();
    let update = learner.update(b, &groups, &optim(), 0.0).expect("finite");
    check("the norm on-policy", update.grad_norm, &wanted["grad_norm"], near.value);
}

fn all<B: Backend>(b: &B, near: Near) {
    let Some(fixture) = Fixture::open() else { return };
    divergences(b, &fixture, near);
    steps(b, &fixture, near);
    samples(b, &fixture, near);
    on_policy(b, &fixture, near);
}

#[test]
fn by_the_reference() {
    all(&Reference, EXACT);
}

#[test]
fn by_the_cpu() {
    all(&Cpu::new(Isa::Portable, 2).expect("a processor"), SINGLE);
}
