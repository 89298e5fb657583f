//! What steps of a recipe will compute, and how long that takes here.
//!
//! Tokens come from the data where they are there: the first rows are encoded, all are counted. Where an earlier step makes them, from
//! that step's settings: as many rows as it makes at most, each as long as it may become. So what is said is the most that can be.

use std::path::Path;

use koan_backend::{Backend, MomentType};
use koan_data::{DataFiles, rows::Rows};
use koan_model::{Config, Flops};
use koan_recipe::{Job as Step, Kind, Recipe, Source};
use koan_text::Tokenizer;
use koan_train::{
    distill::{DistillConfig, Method},
    forecast::{Load, PassSpeed},
    gradient::PassError,
    prefer::PreferConfig,
    reject::RejectConfig,
    rl::RlConfig,
    stage::StageConfig,
    supervised::SupervisedConfig,
};
use serde_json::Value;

/// Rows whose tokens are counted: their mean stands for all.
const SAMPLED_ROWS: usize = 200;
/// What a prompt is taken to have where nothing can be encoded, tokens.
const PROMPT_TOKENS: f64 = 64.0;
/// The same of a text that is learned.
const TEXT_TOKENS: f64 = 256.0;
/// Sequences that `generate` and `eval` are taken to sample at once.
pub(super) const SEQUENCES: usize = 64;

/// How many rows data have, and how long they are on average, tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lengths {
    /// Rows; none if it is not known.
    rows: Option<f64>,
    /// What comes before what is learned: prompts.
    context: f64,
    /// What is learned: texts, replies, both of a pair.
    learned: f64,
    /// Whether the data are there; else they are what an earlier step makes, at most.
    are_there: bool,
}

impl Lengths {
    /// Of `data` that are there, for the model of a directory.
    ///
    /// # Errors
    /// Files that can't be read.
    pub(super) fn of(data: &DataFiles, model: &Path) -> anyhow::Result<Self> {
        let tokenizer = Tokenizer::load(model).ok();
        let tokens = |text: &str| {
            // About four bytes of English, where there is no tokenizer yet.
            let encoded = tokenizer.as_ref().and_then(|tokenizer| tokenizer.encode(text, false).ok());
            encoded.map_or(text.len() as f64 / 4.0, |ids| ids.len() as f64)
        };
        let (mut rows, mut sampled, mut sums) = (0_usize, 0_usize, [0.0; 2]);
        for path in data.paths()? {
            for (i, row) in Rows::open(&path)?.enumerate() {
                let (_, json) = row?;
                rows += 1;
                if i < SAMPLED_ROWS
                    && let Some(row) = json.ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok())
                {
                    sampled += 1;
                    let [context, learned] = texts(&row).map(|text| tokens(&text));
                    sums = [sums[0] + context, sums[1] + learned];
                }
            }
        }
        let [context, learned] = sums.map(|sum| sum / sampled.max(1) as f64);
        Ok(Self { rows: Some(rows as f64), context, learned, are_there: true })
    }

    /// Of what step `place` will make in `file`, as far as its settings say so.
    fn made_by(recipe: &Recipe, place: usize, file: &Path) -> Self {
        let step = &recipe.steps[place];
        let number = |key: &str| {
            step.settings.get(key).and_then(|value| value.as_float().or(value.as_integer().map(|n| n as f64)))
        };
        let rollout = |key: &str| step.settings.get("rollout")?.get(key)?.as_integer().map(|n| n as f64);
        let before = || {
            let of = step
                .inputs
                .iter()
                .filter(|input| input.key.starts_with("data") || input.key.starts_with("part"));
            let all: Vec<Self> = of
                .map(|input| match &input.source {
                    Source::Step { step, path } => Self::made_by(recipe, *step, path),
                    Source::Path(path) => Self { rows: count(&path.as_path().into()), ..Self::unknown() },
                })
                .collect();
            let rows: Option<f64> = all.iter().map(|one| one.rows).sum();
            let longest = |of: fn(&Self) -> f64| all.iter().map(of).fold(0.0, f64::max);
            Self {
                rows: rows.filter(|_| !all.is_empty()),
                context: longest(|l| l.context),
                learned: longest(|l| l.learned),
                are_there: false,
            }
        };
        match step.kind {
            Kind::Problems => {
                Self { rows: number("n"), context: PROMPT_TOKENS, learned: 0.0, are_there: false }
            }
            Kind::Split => {
                let all = before();
                let held_out =
                    number("held_out").zip(all.rows).map(|(n, rows)| if n < 1.0 { n * rows } else { n });
                let is_held_out = file.file_stem().is_some_and(|name| name == "held-out");
                let rest = all.rows.zip(held_out).map(|(rows, held_out)| (rows - held_out).max(0.0));
                Self { rows: if is_held_out { held_out } else { rest }, ..all }
            }
            Kind::Mix => {
                let all = before();
                Self { rows: number("rows").or(all.rows), ..all }
            }
            Kind::World => of_world(file, &number),
            Kind::Vote => {
                let (all, most) = (before(), number("at_most").unwrap_or(1.0));
                Self { rows: all.rows.map(|rows| rows * most), ..all }
            }
            Kind::Convert | Kind::Filter | Kind::Decontaminate => before(),
            Kind::Generate => {
                let new = number("max_new_tokens").unwrap_or(256.0);
                Self { learned: new * number("n").unwrap_or(1.0), ..before() }
            }
            Kind::Reject => {
                let all = before();
                let is_pair = step.settings.get("keep").and_then(|keep| keep.get("which")?.as_str())
                    == Some("preference");
                let most = step
                    .settings
                    .get("keep")
                    .and_then(|keep| keep.get("at_most")?.as_integer())
                    .map(|n| n as f64);
                let (group, new) =
                    (rollout("group_size").unwrap_or(16.0), rollout("max_new_tokens").unwrap_or(256.0));
                let rows = all.rows.map(|rows| rows * most.unwrap_or(group).min(group));
                Self { rows, learned: if is_pair { 2.0 * new } else { new }, ..all }
            }
            _ => Self::unknown(),
        }
    }

    fn unknown() -> Self {
        Self { rows: None, context: PROMPT_TOKENS, learned: TEXT_TOKENS, are_there: false }
    }

    /// Of what the input `key` of step `place` holds: of files that are there, or of what earlier steps make.
    ///
    /// # Errors
    /// Files that can't be read.
    pub(super) fn of_input(
        recipe: &Recipe,
        place: usize,
        data: &DataFiles,
        model: &Path,
        are_there: bool,
    ) -> anyhow::Result<Self> {
        if are_there {
            return Self::of(data, model);
        }
        let mut all: Option<Self> = None;
        for input in recipe.steps[place]
            .inputs
            .iter()
            .filter(|input| input.key == "data" || input.key.starts_with("data["))
        {
            let one = match &input.source {
                Source::Step { step, path } => Self::made_by(recipe, *step, path),
                Source::Path(path) => Self::of(&path.as_path().into(), model)?,
            };
            all = Some(match all {
                None => one,
                Some(all) => Self {
                    rows: all.rows.zip(one.rows).map(|(a, b)| a + b),
                    context: all.context.max(one.context),
                    learned: all.learned.max(one.learned),
                    are_there: false,
                },
            });
        }
        Ok(Self { are_there: false, ..all.unwrap_or_else(Self::unknown) })
    }

    /// What is to be said of it.
    pub(super) fn note(&self) -> Option<String> {
        (!self.are_there).then(|| match self.rows {
            Some(rows) => {
                format!("of at most {rows} rows, which are not made yet, each as long as it may become")
            }
            None => "how many rows it will have is not known yet".to_owned(),
        })
    }
}

/// Of a part of a world: a move of a question has some 5 tokens, a line of a checked answer 26; most answers of its text are shorter.
fn of_world(file: &Path, number: &dyn Fn(&str) -> Option<f64>) -> Lengths {
    let part = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let key = if part == "text" { "texts".to_owned() } else { part.replace('-', "_") };
    let moves = number("moves").unwrap_or(1.0);
    let context = if part == "text" { 0.0 } else { 5.0 * moves };
    let learned = match part {
        "text" => 12.0 * moves,
        "demonstrations" => 26.0 * moves,
        _ => 0.0,
    };
    Lengths { rows: number(&key), context, learned, are_there: false }
}

fn count(data: &DataFiles) -> Option<f64> {
    let mut n = 0;
    for path in data.paths().ok()? {
        n += Rows::open(&path).ok()?.count();
    }
    Some(n as f64)
}

/// What of a row comes before what is learned, and what is learned.
fn texts(row: &Value) -> [String; 2] {
    let (mut context, mut learned) = (String::new(), String::new());
    let mut add = |value: &Value, is_learned: bool| {
        let mut one = |text: &str, is_learned: bool| {
            if is_learned { learned.push_str(text) } else { context.push_str(text) }
        };
        match value {
            Value::String(text) => one(text, is_learned),
            Value::Array(messages) => {
                for message in messages {
                    let text = message["content"].as_str().or(message["text"].as_str()).unwrap_or_default();
                    one(text, is_learned || message["role"] == "assistant");
                }
            }
            _ => {}
        }
    };
    for (key, is_learned) in [
        ("prompt", false),
        ("messages", false),
        ("text", true),
        ("completion", true),
        ("chosen", true),
        ("rejected", true),
        ("completions", true),
    ] {
        add(&row[key], is_learned);
    }
    [context, learned]
}

/// What a supervised stage computes.
pub(super) fn supervised(config: &SupervisedConfig, model: &Config, of: Lengths) -> Option<Load> {
    let (longest, batch) = (config.max_tokens as f64, config.mean_batch_tokens());
    learning(&config.stage, model, of, longest, config.steps, config.epochs, batch)
}

/// What learning texts computes: `steps` updates of `batch` tokens, or `epochs` passes over the rows.
fn learning(
    stage: &StageConfig,
    model: &Config,
    of: Lengths,
    longest: f64,
    steps: Option<u64>,
    epochs: Option<u64>,
    batch: f64,
) -> Option<Load> {
    let flops = Flops::of(model);
    let learned = of.learned.clamp(1.0, longest);
    let (texts, updates) = match (steps, epochs, of.rows) {
        (Some(steps), ..) => {
            // The last text of a batch is whole.
            let tokens = steps as f64 * (batch + learned / 2.0);
            (tokens / learned, steps as f64)
        }
        (None, Some(epochs), Some(rows)) => {
            let tokens = epochs as f64 * rows * of.learned;
            (tokens / learned, (tokens / batch).ceil())
        }
        _ => return None,
    };
    let passes = Load::learning(&flops, texts, of.context.min(longest), learned, stage.optim.recompute);
    Some(passes.and(Load::updates(model, updates)))
}

/// What learning from preferences computes: both replies of a pair, by the model, and once by the reference.
pub(super) fn prefer(config: &PreferConfig, model: &Config, of: Lengths) -> Option<Load> {
    let rows = match (config.steps, config.epochs, of.rows) {
        (Some(steps), ..) => steps as f64 * config.batch as f64,
        (None, Some(epochs), Some(rows)) => epochs as f64 * rows,
        _ => return None,
    };
    let flops = Flops::of(model);
    let once = of.rows.unwrap_or(rows).min(rows);
    let (context, learned) = (of.context, of.learned.clamp(1.0, 2.0 * config.max_tokens as f64));
    // The prompt is shared by both replies, each of which attends to it and to itself.
    let learn = Load::learning(&flops, rows, context, learned, config.stage.optim.recompute);
    let score = match config.reference_model() {
        Some(_) => Load::scoring(&flops, once, context, learned),
        None => Load::default(),
    };
    Some(learn.and(score).and(Load::updates(model, (rows / config.batch as f64).ceil())))
}

/// What reinforcement learning computes, held-out measurements apart.
pub(super) fn rl(config: &RlConfig, model: &Config, of: Lengths) -> Load {
    let (flops, rollout) = (Flops::of(model), &config.rollout);
    let group = rollout.group_size as f64;
    let epochs = config.algorithm.epochs() as f64;
    let reference = if config.loss().kl == 0.0 { 0.0 } else { epochs };
    let phase = |(steps, new): (u64, usize)| {
        let (prompts, new) = (steps as f64 * rollout.problems as f64, new as f64);
        // A prompt is computed once for its group.
        let (texts, context) = (prompts * group, of.context / group);
        let learn = Load::learning(&flops, texts, context, new, config.stage.optim.recompute);
        Load::sampling(&flops, prompts, of.context, group, new)
            .and(learn.times(epochs))
            .and(Load::scoring(&flops, texts, context, new).times(reference))
    };
    let updates = config.steps as f64 * config.updates_per_step() as f64;
    let phases = rollout.max_new_tokens.phases(config.steps).map(phase);
    phases.fold(Load::updates(model, updates), Load::and)
}

/// What rejection sampling computes.
pub(super) fn reject(config: &RejectConfig, model: &Config, of: Lengths) -> Option<Load> {
    let (group, new) = (config.rollout.group_size as f64, config.rollout.max_new_tokens.most() as f64);
    of.rows.map(|problems| Load::sampling(&Flops::of(model), problems, of.context, group, new))
}

/// What learning from a teacher computes.
pub(super) fn distill(config: &DistillConfig, model: &Config, teacher: &Config, of: Lengths) -> Option<Load> {
    let (student, of_teacher) = (Flops::of(model), Flops::of(teacher));
    let (batch, longest) = (config.batch_tokens() as f64, config.max_tokens() as f64);
    let rollout = config.rollout();
    let (group, new) = (rollout.group_size as f64, rollout.max_new_tokens.most() as f64);
    match config.algorithm.method {
        Method::Logits => {
            let learn = learning(&config.stage, model, of, longest, config.steps, config.epochs, batch)?;
            let learned = of.learned.clamp(1.0, longest);
            let texts = learn.tokens_trained / learned;
            Some(learn.and(Load::scoring(&of_teacher, texts, of.context.min(longest), learned)))
        }
        Method::Samples => {
            let problems = of.rows?;
            let sampled = Load::sampling(&of_teacher, problems, of.context, group, new);
            let rows = Lengths { rows: Some(problems * group), learned: new, ..of };
            Some(sampled.and(learning(
                &config.stage,
                model,
                rows,
                longest,
                config.steps,
                config.epochs,
                batch,
            )?))
        }
        Method::OnPolicy => {
            let prompts = config.steps? as f64 * rollout.problems as f64;
            let texts = prompts * group;
            let sampled = Load::sampling(&student, prompts, of.context, group, new);
            let scored = Load::scoring(&of_teacher, texts, of.context, new);
            let learned = Load::learning(&student, texts, of.context, new, config.stage.optim.recompute);
            Some(sampled.and(scored).and(learned).and(Load::updates(model, config.steps? as f64)))
        }
    }
}

/// What a step `generate` or `eval` computes.
pub(super) fn completions(step: &Step, model: &Config, of: Lengths) -> Option<Load> {
    let flops = Flops::of(model);
    if step.settings.contains_key("reward_model") {
        return of.rows.map(|rows| Load::scoring(&flops, rows, of.context, of.learned));
    }
    let number = |key: &str, default: f64| {
        step.settings.get(key).and_then(toml::Value::as_integer).map_or(default, |n| n.max(0) as f64)
    };
    let (n, new) = (number("n", 1.0), number("max_new_tokens", 256.0));
    of.rows.map(|rows| Load::sampling(&flops, rows, of.context, n, new))
}

/// How many sequences a step samples at once: `samples` of each row, as far as there are so many.
pub(super) fn at_once(of: Lengths, samples: f64) -> usize {
    of.rows.map_or(SEQUENCES, |rows| (rows * samples).clamp(1.0, SEQUENCES as f64) as usize)
}

/// The speed of this machine for models of some sizes, each measured once: with how many sequences at once, rounded up to a power of two,
/// and whether it learns.
#[derive(Default)]
pub(super) struct Speeds(Vec<(Config, usize, bool, PassSpeed)>);

impl Speeds {
    /// For the model of these sizes, with so many `sequences` at once and passes of up to `rows` tokens, for this load.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub(super) fn of<B: Backend>(
        &mut self,
        b: &B,
        model: &Config,
        [sequences, rows]: [usize; 2],
        load: &Load,
    ) -> Result<PassSpeed, PassError> {
        let learns = load.learn > 0.0;
        let sequences = if load.sample > 0.0 { sequences.next_power_of_two() } else { 1 };
        let is_known = |(config, at_once, learned, _): &&(Config, usize, bool, PassSpeed)| {
            let samples = load.sample == 0.0 || *at_once == sequences;
            samples && config == model && (*learned || !learns)
        };
        if let Some((.., speed)) = self.0.iter().find(is_known) {
            return Ok(*speed);
        }
        let speed = PassSpeed::measure(b, model, sequences, rows, learns, MomentType::F32)?;
        self.0.push((model.clone(), sequences, learns, speed));
        Ok(speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rows_texts_are_what_is_read_and_what_is_learned() {
        for (row, context, learned) in [
            (json!({"text": "abc"}), "", "abc"),
            (json!({"prompt": "q", "completion": "a"}), "q", "a"),
            (
                json!({"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"}),
                "q",
                "ab",
            ),
            (
                json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}),
                "q",
                "a",
            ),
            (json!({"prompt": "q", "answer": "1"}), "q", ""),
            (json!([1]), "", ""),
        ] {
            assert_eq!(texts(&row), [context, learned], "{row}");
        }
    }
}
