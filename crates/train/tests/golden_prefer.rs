//! Losses, gradients and steps of `prefer` against the numbers of PyTorch and TRL, and steps of an adapter against those of PEFT,
//! where the fixtures lie beside the project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use koan_backend::{Backend, MomentType, Reference};
use koan_cpu::{Cpu, Isa};
use koan_model::{
    Config, Model,
    checkpoint::{self, Place},
};
use koan_train::{
    optim::{OptimConfig, Optimizer},
    prefer::{Algorithm, Compared, Example, Learner, Nll, NllOver, Objective, PairForm, PairLoss},
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

fn fixtures(name: &str) -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/stages").join(name);
    if !dir.is_dir() {
        println!("skipped: no fixtures beside the project");
        return None;
    }
    Some(dir)
}

/// A loss, its examples, and what they must give.
struct Run {
    name: String,
    model: PathBuf,
    scorer: bool,
    objective: Objective,
    optim: OptimConfig,
    examples: Vec<Example>,
    reference: Vec<[f64; 2]>,
    loss: f64,
    grad_norm: f64,
    /// Losses before each step and after the last.
    steps: Option<Vec<f64>>,
}

impl Run {
    /// On the backends whose products are f64 and f32.
    fn check(&self) {
        self.on(&Reference, EXACT);
        self.on(&Cpu::new(Isa::Portable, 2).expect("a processor"), SINGLE);
    }

    fn on<B: Backend>(&self, b: &B, near: Near) {
        let mut learner = learner(b, &self.model, self.scorer, self.objective, &self.optim);
        let examples: Vec<Compared> = self
            .examples
            .iter()
            .zip(&self.reference)
            .map(|(example, &reference)| Compared { example, reference })
            .collect();
        let check = |what: &str, found: f64, wanted: f64, near: f64| {
            let error = (found / wanted - 1.0).abs();
            assert!(error < near, "{}: {what} is {found}, wanted {wanted}, {error:.1e} off", self.name);
        };
        let (found, norm) = learner.update(b, &examples, &self.optim, self.optim.lr).expect("finite");
        check("the loss", found.loss, self.loss, near.value);
        check("the norm of the gradient", norm, self.grad_norm, near.value);
        let Some(steps) = &self.steps else { return };
        for wanted in &steps[1..steps.len() - 1] {
            let (found, _) = learner.update(b, &examples, &self.optim, self.optim.lr).expect("finite");
            check("the loss after steps", found.loss, *wanted, near.after_steps);
        }
        let last = learner.measure(b, &examples).expect("memory").loss;
        check("the last loss", last, steps[steps.len() - 1], near.after_steps);
    }
}

fn learner<B: Backend>(
    b: &B,
    dir: &Path,
    scorer: bool,
    objective: Objective,
    optim: &OptimConfig,
) -> Learner<B> {
    let model: Model<B> = if scorer {
        checkpoint::load_as(b, dir, Config::load(dir).expect("a fixture"), 64, 0).expect("a fixture")
    } else {
        checkpoint::load(b, dir, Some(64)).expect("a fixture")
    };
    let optimizer = Optimizer::new(b, model.config(), MomentType::F32).expect("memory");
    Learner::new(b, model, optimizer, objective, 64, optim).expect("memory")
}

fn optim() -> OptimConfig {
    OptimConfig { lr: 1e-3, grad_clip: 1e30, ..OptimConfig::default() }
}

fn objective(toml: &str) -> Objective {
    toml::from_str::<Algorithm>(toml).expect("settings").objective()
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a fixture")).expect("a fixture")
}

fn rows(path: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a fixture");
    text.lines().map(|line| serde_json::from_str(line).expect("a fixture")).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("token ids");
    ids.iter().map(|id| id.as_u64().expect("a token id") as u32).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().expect("numbers").iter().map(float).collect()
}

fn float(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn pair(row: &Value) -> Example {
    Example {
        prompt: ids(&row["prompt_ids"]),
        replies: [ids(&row["chosen_ids"]), ids(&row["rejected_ids"])],
        good: true,
        margin: row["margin"].as_f64().unwrap_or(0.0),
    }
}

#[test]
fn losses_of_pairs() {
    let Some(dir) = fixtures("dpo") else { return };
    let expected = json(dir.join("expected.json"));
    let pairs: Vec<Value> = rows(dir.join("pairs.jsonl"));
    let sums = &expected["log_prob_sums"];
    let reference = floats(&sums["reference_chosen"]).into_iter().zip(floats(&sums["reference_rejected"]));
    let reference: Vec<[f64; 2]> = reference.map(<[f64; 2]>::from).collect();
    for (name, settings) in [
        ("sigmoid", ""),
        ("sigmoid_label_smoothing", "label_smoothing = 0.1"),
        ("robust", "loss = 'robust'\nlabel_smoothing = 0.1"),
        ("sigmoid_norm", "loss = 'dpo-norm'"),
        ("ipo", "loss = 'ipo'"),
        ("ipo_summed", "loss = 'ipo-sum'"),
        ("hinge", "loss = 'hinge'"),
        ("sigmoid_plus_sft", "nll_weight = 0.2"),
        ("simpo", "loss = 'simpo'"),
        ("cpo", "loss = 'cpo'"),
        ("orpo", "loss = 'orpo'"),
        ("orpo_completion_nll", "loss = 'orpo'\nnll = 'completion'"),
    ] {
        let objective = objective(settings);
        let Objective::Pairs(loss, _) = objective else { panic!("a loss of pairs") };
        let steps = &expected["sigmoid_three_steps"]["loss_before_each_step_and_after_last"];
        let run = Run {
            name: name.into(),
            model: dir.join("policy"),
            scorer: false,
            objective,
            optim: optim(),
            examples: pairs.iter().map(pair).collect(),
            reference: if loss.form.needs_reference() { reference.clone() } else { vec![[0.0; 2]; 8] },
            loss: float(&expected["losses"][name]["loss"]),
            grad_norm: float(&expected["losses"][name]["grad_norm"]),
            steps: (name == "sigmoid").then(|| floats(steps)),
        };
        run.check();
    }
}

#[test]
fn kto() {
    let Some(dir) = fixtures("dpo") else { return };
    let expected = json(dir.join("expected.json"));
    let rows = rows(dir.join("kto_rows.jsonl"));
    let completion = |i: usize| ids(&rows[i % rows.len()]["completion_ids"]);
    let examples: Vec<Example> = (0..rows.len())
        .map(|i| Example {
            prompt: ids(&rows[i]["prompt_ids"]),
            replies: [completion(i), completion(i + rows.len() - 1)],
            good: rows[i]["label"] == true,
            margin: 0.0,
        })
        .collect();
    // The sums of log-probabilities of a row under the reference policy, as a loss of pairs finds them.
    let sums = PairLoss { form: PairForm::IpoSum, beta: 1.0, label_smoothing: 0.0, gamma: 0.0 };
    let sums = Objective::Pairs(sums, Nll { weight: 0.0, over: NllOver::Completion });
    let mut of_reference = learner(&Reference, &dir.join("reference"), false, sums, &optim());
    let reference: Vec<[f64; 2]> = examples
        .iter()
        .map(|example| {
            let one = [Compared { example, reference: [0.0; 2] }];
            let found = of_reference.measure(&Reference, &one).expect("memory");
            [found.chosen_log_prob, found.rejected_log_prob]
        })
        .collect();
    for (weights, settings) in [("weights_1_1", ""), ("weights_1_1.33", "bad_weight = 1.33")] {
        let wanted = &expected["kto"][weights];
        let run = Run {
            name: format!("kto, {weights}"),
            model: dir.join("policy"),
            scorer: false,
            objective: objective(&format!("loss = 'kto'\n{settings}")),
            optim: optim(),
            examples: examples.clone(),
            reference: reference.clone(),
            loss: float(&wanted["loss"]),
            grad_norm: float(&wanted["grad_norm"]),
            steps: None,
        };
        run.check();
    }
}

#[test]
fn reward_models() {
    let Some(dir) = fixtures("reward_model") else { return };
    let expected = json(dir.join("expected.json"));
    let labelled = |row: &Value| {
        let ids = ids(&row["ids"]);
        let (prompt, reply) = ids.split_at(2);
        Example {
            prompt: prompt.into(),
            replies: [reply.into(), vec![]],
            good: row["label"] == 1,
            margin: 0.0,
        }
    };
    let pairs: Vec<Example> = rows(dir.join("pairs.jsonl")).iter().map(pair).collect();
    let safety: Vec<Example> = rows(dir.join("safety.jsonl")).iter().map(labelled).collect();
    for (name, settings, examples) in [
        ("pairwise", "loss = 'reward-model'\nmargin = false", &pairs),
        ("pairwise_margin", "loss = 'reward-model'", &pairs),
        ("pairwise_centered", "loss = 'reward-model'\nmargin = false\ncentering = 0.01", &pairs),
        ("pairwise_margin_centered", "loss = 'reward-model'\ncentering = 0.01", &pairs),
        ("pointwise", "loss = 'reward-model-pointwise'", &safety),
    ] {
        let decayed_and_clipped = OptimConfig { grad_clip: 1.0, weight_decay: 0.1, ..optim() };
        let plain = OptimConfig { weight_decay: 0.0, ..optim() };
        let steps = &expected[format!("{name}_three_steps")]["loss_before_each_step_and_after_last"];
        let run = Run {
            name: name.into(),
            model: dir.join("model"),
            scorer: true,
            objective: objective(settings),
            optim: if name == "pairwise_margin_centered" { decayed_and_clipped } else { plain },
            examples: examples.clone(),
            reference: vec![[0.0; 2]; examples.len()],
            loss: float(&expected["losses"][name]["loss"]),
            grad_norm: float(&expected["losses"][name]["grad_norm"]),
            steps: steps.is_array().then(|| floats(steps)),
        };
        run.check();
    }
}

fn three_steps_of_an_adapter<B: Backend>(b: &B, dir: &Path, near: Near) {
    let expected = &json(dir.join("expected.json"))["three_steps"];
    let (base, start) = (dir.join("base-llama"), dir.join("train-init"));
    let config = Config::load(&base).expect("a fixture").with_adapter_from(&start).expect("a fixture");
    let place = Place::find(&base, Some(&start)).expect("a fixture");
    let model = checkpoint::load_as(b, &place, config, 64, 0).expect("a fixture");
    let optimizer = Optimizer::new(b, model.config(), MomentType::F32).expect("memory");
    let optim = OptimConfig { lr: 1e-2, ..optim() };
    let mut learner = NextToken::new(b, model, optimizer, 64, &optim).expect("memory");
    let rows: Vec<(Vec<u32>, Vec<u32>)> = rows(dir.join("rows.jsonl"))
        .iter()
        .map(|row| (ids(&row["prompt_ids"]), ids(&row["completion_ids"])))
        .collect();
    let texts: Vec<Text> = rows.iter().map(|(context, tokens)| Text { context, tokens }).collect();
    let check = |what: &str, found: f64, wanted: f64, near: f64| {
        let error = (found / wanted - 1.0).abs();
        assert!(error < near, "{what} is {found}, wanted {wanted}, {error:.1e} off");
    };
    let losses = floats(&expected["loss_before_each_step_and_after_last"]);
    let norms = floats(&expected["grad_norm_of_each_step_before_clipping"]);
    for (step, (&loss, &norm)) in losses.iter().zip(&norms).enumerate() {
        let near = if step == 0 { near.value } else { near.after_steps };
        let update = learner.update(b, &texts, &optim, optim.lr).expect("finite");
        check(&format!("the loss before step {step}"), update.loss, loss, near);
        check(&format!("the norm of the gradient of step {step}"), update.grad_norm, norm, near);
    }
    check("the last loss", learner.loss(b, &texts).expect("memory"), losses[3], near.after_steps);
    for param in learner.model.weights.tensors().filter(|param| param.info().trained) {
        let name = param.info().name.trim_start_matches("model.").trim_end_matches(".weight");
        let values = b.read_exact([(param.value(), param.info().len())]);
        let norm = values[0].iter().map(|x| x * x).sum::<f64>().sqrt();
        check(name, norm, float(&expected["adapter_after"][name]["norm"]), near.after_steps);
    }
}

#[test]
fn steps_of_an_adapter() {
    let Some(dir) = fixtures("lora") else { return };
    three_steps_of_an_adapter(&Reference, &dir, EXACT);
    three_steps_of_an_adapter(&Cpu::new(Isa::Portable, 2).expect("a processor"), &dir, SINGLE);
}
