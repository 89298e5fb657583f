//! `koan recipe plan`: what each step takes, from the plans of the stages themselves.

use std::path::{Path, PathBuf};

use anyhow::bail;
use koan_backend::Backend;
use koan_data::DataFiles;
use koan_model::{Config, Residency, checkpoint::Place};
use koan_recipe::{Job as Step, Kind, Rates, Recipe, RecipeDir, Selection, Source, Standing, standings};
use koan_train::{
    forecast::Load,
    optim::OptimConfig,
    reject, rl,
    stage::{StageConfig, available_disk, disk_bytes},
    supervised::step_bytes,
};
use toml::Value;

use super::{
    CODE,
    cost::thousands,
    estimate::{self, Lengths, Speeds},
    perform::Settings,
    show::{money, seconds},
};
use crate::device::Running;

/// Rows of the passes in which completions are scored.
const EVAL_ROWS: usize = 512;
const GIB: f64 = (1u64 << 30) as f64;

/// What a step takes, as far as it can be known.
#[derive(Default)]
struct Needs {
    /// Bytes of memory.
    memory: Option<u64>,
    /// Bytes of disk.
    disk: Option<u64>,
    /// What it computes; without it, only `seconds` may be known.
    load: Option<Load>,
    seconds: Option<f64>,
    /// What is to be said of these numbers.
    notes: Vec<String>,
    /// Why it can't be run here.
    obstacles: Vec<String>,
}

/// Refuses a recipe of which a step can't fit, before any is made.
pub(super) fn refuse_what_does_not_fit<B: Backend>(
    b: &B,
    recipe: &Recipe,
    selection: &Selection,
) -> anyhow::Result<()> {
    let scratch = Scratch::new();
    let standings = standings(recipe, CODE)?;
    let mut disk = 0;
    for place in selection.places(recipe)? {
        if standings[place] == Standing::Done {
            continue;
        }
        let needs = needs(b, recipe, place, &standings, &scratch, None)?;
        if let Some(obstacle) = needs.obstacles.first() {
            bail!("step `{}` does not fit here: {obstacle}", recipe.steps[place].name);
        }
        // What a step that goes on has written already, it writes over.
        if standings[place] != Standing::Begun {
            disk += needs.disk.unwrap_or(0);
        }
    }
    match disk_obstacle(recipe, disk)? {
        Some(obstacle) => bail!("the recipe does not fit here: {obstacle}"),
        None => Ok(()),
    }
}

/// Prints what every step of `recipe` and the whole take.
///
/// # Errors
/// If something does not fit.
pub(super) fn print<B: Backend>(
    b: &B,
    running: Running,
    recipe: &Recipe,
    rates: Rates,
) -> anyhow::Result<()> {
    let scratch = Scratch::new();
    let standings = standings(recipe, CODE)?;
    say!("{} steps in {}; {running}", recipe.steps.len(), recipe.run_dir.display())?;
    let (mut disk, mut memory, mut all_s, mut all, mut speeds) =
        (0, 0, 0.0, Load::default(), Speeds::default());
    let (mut untold, mut obstacles) = (Vec::new(), Vec::new());
    for (place, (step, standing)) in recipe.steps.iter().zip(&standings).enumerate() {
        if *standing == Standing::Done {
            say!("{} ({}): made already, is not made again", step.name, step.kind)?;
            continue;
        }
        let is_begun = RecipeDir::state(&recipe.run_dir, &step.name)?.is_some();
        say!("{} ({}): {}", step.name, step.kind, why(standing, is_begun))?;
        let needs = needs(b, recipe, place, &standings, &scratch, Some(&mut speeds))?;
        let mut told = Vec::new();
        if let Some(bytes) = needs.memory {
            memory = bytes.max(memory);
            told.push(format!("memory {:.2} GiB", bytes as f64 / GIB));
        }
        if let Some(bytes) = needs.disk {
            disk += bytes;
            told.push(format!("disk {:.2} GiB", bytes as f64 / GIB));
        }
        if let Some(load) = needs.load {
            all = all.and(load);
            told.extend(computed(&load));
        }
        match needs.seconds {
            Some(s) => {
                all_s += s;
                told.push(format!("time about {}{}", seconds(s), money(s, rates.price_per_hour)));
            }
            None if computes(step.kind) => untold.push(&*step.name),
            None => {}
        }
        if !told.is_empty() {
            say!("  {}", told.join(", "))?;
        }
        for note in &needs.notes {
            say!("  {note}")?;
        }
        for obstacle in needs.obstacles {
            say!("  does not fit here: {obstacle}")?;
            obstacles.push(format!("{}: {obstacle}", step.name));
        }
    }
    let free = |bytes: Option<u64>| {
        bytes.map_or_else(String::new, |n| format!(" of {:.2} GiB free", n as f64 / GIB))
    };
    let at_least = if untold.is_empty() { "" } else { "at least " };
    say!("the whole: memory {:.2} GiB{}", memory as f64 / GIB, free(b.free_memory()))?;
    say!("           disk {:.2} GiB{}", disk as f64 / GIB, free(available_disk(&recipe.run_dir)?))?;
    if all != Load::default() {
        say!("           {at_least}{}", computed(&all).join(", "))?;
    }
    if all_s > 0.0 {
        say!("           time about {at_least}{}{}", seconds(all_s), money(all_s, rates.price_per_hour))?;
    }
    if !untold.is_empty() {
        say!("           time can't be told before they run of: {}", untold.join(", "))?;
    }
    obstacles.extend(disk_obstacle(recipe, disk)?);
    match obstacles.first() {
        Some(obstacle) => bail!("it does not fit here: {obstacle}"),
        None => Ok(()),
    }
}

/// Whether steps of this kind run a model: others take seconds.
fn computes(kind: Kind) -> bool {
    kind.is_stage() || matches!(kind, Kind::Generate | Kind::Eval)
}

/// Tokens and operations, in words.
fn computed(load: &Load) -> Vec<String> {
    let tokens = [(load.tokens_drawn, "drawn"), (load.tokens_trained, "trained")];
    let mut all: Vec<String> = tokens
        .into_iter()
        .filter(|(n, _)| *n > 0.0)
        .map(|(n, what)| format!("up to {} tokens {what}", thousands(n as u64)))
        .collect();
    if load.flops() > 0.0 {
        all.push(format!("{:.1e} FLOPs", load.flops()));
    }
    all
}

fn why(standing: &Standing, is_begun: bool) -> String {
    match standing {
        Standing::New => "is made".to_owned(),
        Standing::Begun => "is begun, and goes on".to_owned(),
        Standing::Changed(what) => format!("is made again, for these changed: {}", what.join(", ")),
        Standing::Waiting => "waits for people".to_owned(),
        Standing::After(steps) if !is_begun => format!("is made, after {}", steps.join(", ")),
        Standing::After(steps) => {
            format!("is made after {}, unless they come out as before", steps.join(", "))
        }
        Standing::Done => "is made already".to_owned(),
    }
}

fn disk_obstacle(recipe: &Recipe, needed: u64) -> anyhow::Result<Option<String>> {
    let free = available_disk(&recipe.run_dir)?.filter(|free| *free < needed);
    Ok(free.map(|free| {
        let (needed, free) = (needed as f64 / GIB, free as f64 / GIB);
        format!(
            "all steps together need {needed:.1} GiB of disk at {}, {free:.1} are free",
            recipe.run_dir.display()
        )
    }))
}

/// What step `place` takes.
fn needs<B: Backend>(
    b: &B,
    recipe: &Recipe,
    place: usize,
    standings: &[Standing],
    scratch: &Scratch,
    speeds: Option<&mut Speeds>,
) -> anyhow::Result<Needs> {
    let step = Step::of(recipe, place, &|source| match source {
        Source::Path(path) => path.clone(),
        // What an earlier run of the recipe made may be there and be made again.
        Source::Step { step, path } if standings[*step] == Standing::Done => path.clone(),
        Source::Step { step, path } => {
            stand_in(recipe, *step, path, standings, scratch).unwrap_or_else(|| path.clone())
        }
    });
    let unknown: Vec<String> = recipe
        .needs(place)
        .into_iter()
        .filter(|need| standings[*need] != Standing::Done)
        .map(|need| format!("`{}`", recipe.steps[need].name))
        .collect();
    // Whether what `data` names is there, of the same as it will be made of.
    let has_data = recipe.steps[place].inputs.iter().all(|input| match &input.source {
        Source::Step { step, .. } => !input.key.starts_with("data") || standings[*step] == Standing::Done,
        Source::Path(_) => true,
    });
    let lengths = |data: &DataFiles, model: &Path| {
        speeds.is_some().then(|| Lengths::of_input(recipe, place, data, model, has_data)).transpose()
    };
    // All that it reads besides the model it starts from: what stands in for a model is no reward model, and no data.
    let rest_is_there = recipe.steps[place].inputs.iter().all(|input| match &input.source {
        Source::Step { step, .. } => input.key == "model" || standings[*step] == Standing::Done,
        Source::Path(_) => true,
    });
    let later = format!("more can be told after {}", unknown.join(", "));
    let mut needs = Needs::default();
    match Settings::of(&step)? {
        Some(settings) => {
            let stage = stage_of(&settings);
            let server = match &settings {
                Settings::Reject(config) => config.server.as_ref(),
                Settings::Distill(config) => config.server.as_ref(),
                _ => None,
            };
            if let Some(server) = server {
                let (model, url) = (&server.model, &server.url);
                needs.notes.push(format!(
                    "`{model}` at {url} writes the completions: what that takes there is not known here"
                ));
            }
            let is_here = !matches!(&settings, Settings::Reject(config) if config.server.is_some());
            if is_here && let Err(error) = sizes(&stage.model) {
                let list = if unknown.is_empty() { &mut needs.obstacles } else { &mut needs.notes };
                list.push(if unknown.is_empty() { format!("{error:#}") } else { later });
                return Ok(needs);
            }
            let made = match &settings {
                Settings::Rl(config) => rl_needs(b, config, rest_is_there, speeds.is_some(), &mut needs),
                Settings::Reject(config) if rest_is_there => reject_needs(b, config, &mut needs),
                Settings::Reject(_) => Ok(()),
                Settings::Supervised(_, config) => {
                    let longer = config.context.as_ref().map(|context| context.length);
                    learning_needs(b, &config.stage, config.max_tokens, longer, 0, &mut needs)
                }
                Settings::Prefer(config) => {
                    learning_needs(b, &config.stage, config.max_tokens, None, 0, &mut needs)
                }
                Settings::Distill(config) => {
                    let teacher = weights(b, &config.teacher).unwrap_or(0);
                    needs.notes.push("memory is at least this".to_owned());
                    learning_needs(b, &config.stage, config.max_tokens(), None, teacher, &mut needs)
                }
            };
            if let Err(error) = made {
                needs.obstacles.push(format!("{error:#}"));
            }
            if is_here && let Some(of) = lengths(&stage.data, &stage.model)? {
                let model = stage.trained_config()?;
                needs.load = match &settings {
                    Settings::Rl(config) => Some(estimate::rl(config, &model, of)),
                    Settings::Reject(config) => estimate::reject(config, &model, of),
                    Settings::Supervised(_, config) => estimate::supervised(config, &model, of),
                    Settings::Prefer(config) => estimate::prefer(config, &model, of),
                    Settings::Distill(config) => sizes(&config.teacher)
                        .ok()
                        .and_then(|teacher| estimate::distill(config, &model, &teacher, of)),
                };
                if needs.seconds.is_none() {
                    let at_once = match &settings {
                        Settings::Rl(config) => config.sequences(),
                        Settings::Reject(config) => estimate::at_once(of, config.rollout.group_size as f64),
                        _ => estimate::SEQUENCES,
                    };
                    let sizes = [at_once, stage.optim.micro_batch_tokens];
                    take(b, &mut needs, &model, sizes, of, speeds)?;
                }
            }
            if !unknown.is_empty() {
                needs.notes.push(later);
            }
        }
        None if matches!(step.kind, Kind::Generate | Kind::Eval) => {
            let text = |key: &str| step.settings.get(key).and_then(Value::as_str);
            let model = text("model").or_else(|| text("reward_model")).map(Path::new);
            if let Some(bytes) = model.and_then(|model| weights(b, model)) {
                needs.memory = Some(bytes);
                needs.notes.push("memory of the weights; sequences take what is free, or wait".to_owned());
            }
            let data: Option<DataFiles> =
                step.settings.get("data").and_then(|data| data.clone().try_into().ok());
            match (data, model.and_then(|model| Some((model, sizes(model).ok()?)))) {
                (Some(data), Some((model, config))) => {
                    if let Some(of) = lengths(&data, model)? {
                        needs.load = estimate::completions(&step, &config, of);
                        let n = step.settings.get("n").and_then(Value::as_integer).unwrap_or(1);
                        let sizes = [estimate::at_once(of, n as f64), EVAL_ROWS];
                        take(b, &mut needs, &config, sizes, of, speeds)?;
                    }
                }
                _ if !unknown.is_empty() => needs.notes.push(later),
                _ => {}
            }
            check_memory(b, &mut needs);
        }
        None => {}
    }
    Ok(needs)
}

/// Adds the time that what it computes takes here, and what is to be said of it.
fn take<B: Backend>(
    b: &B,
    needs: &mut Needs,
    model: &Config,
    sizes: [usize; 2],
    of: Lengths,
    speeds: Option<&mut Speeds>,
) -> anyhow::Result<()> {
    needs.notes.extend(of.note());
    if let (Some(load), Some(speeds)) = (&needs.load, speeds)
        && needs.obstacles.is_empty()
    {
        needs.seconds = Some(load.seconds(&speeds.of(b, model, sizes, load)?));
    }
    Ok(())
}

/// A model of the sizes of the one that step `step` will make at `path`.
fn stand_in(
    recipe: &Recipe,
    step: usize,
    path: &Path,
    standings: &[Standing],
    scratch: &Scratch,
) -> Option<PathBuf> {
    let kind = recipe.steps[step].kind;
    if kind == Kind::World {
        return scratch.fresh_model(&recipe.steps[step], path);
    }
    if kind == Kind::Init {
        // A folder with a config.json says a model's sizes as well.
        let config = recipe.steps[step].settings.get("config").and_then(Value::as_str).map(Path::new)?;
        return (config.file_name()? == "config.json")
            .then(|| config.parent().unwrap_or(Path::new(".")).to_owned());
    }
    if kind == Kind::Reject || !recipe.steps[step].kind.is_stage() {
        return None;
    }
    let input = recipe.steps[step].inputs.iter().find(|input| input.key == "model")?;
    match &input.source {
        Source::Path(path) => Some(path.clone()),
        Source::Step { step, path } if standings[*step] == Standing::Done => Some(path.clone()),
        Source::Step { step, path } => stand_in(recipe, *step, path, standings, scratch),
    }
}

/// A folder for the small fresh models of worlds that are not written yet; it goes with the plan.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("koan-plan-{}", std::process::id())))
    }

    /// The model that the world of `step` will write to `path`.
    fn fresh_model(&self, step: &koan_recipe::Step, path: &Path) -> Option<PathBuf> {
        let part = path.file_name()?.to_str()?;
        let dir = self.0.join(&step.name).join(part);
        if !dir.exists() {
            std::fs::create_dir_all(dir.parent()?).ok()?;
            koan_recipe::fresh_model(&step.settings, part, &dir).ok()?;
        }
        Some(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it: what can't be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn stage_of(settings: &Settings) -> &StageConfig {
    match settings {
        Settings::Supervised(_, config) => &config.stage,
        Settings::Rl(config) => &config.stage,
        Settings::Reject(config) => &config.stage,
        Settings::Prefer(config) => &config.stage,
        Settings::Distill(config) => &config.stage,
    }
}

/// Bytes of a model's weights, for forward passes.
fn weights<B: Backend>(b: &B, model: &Path) -> Option<u64> {
    Some(sizes(model).ok()?.model_bytes(b, Residency::Inference) as u64)
}

fn sizes(model: &Path) -> anyhow::Result<Config> {
    Ok(Place::find(model, None)?.config()?)
}

fn rl_needs<B: Backend>(
    b: &B,
    config: &rl::RlConfig,
    rest_is_there: bool,
    is_measured: bool,
    needs: &mut Needs,
) -> anyhow::Result<()> {
    let rollout = &config.rollout;
    if rest_is_there && is_measured {
        let forecast = rl::Forecast::of(b, config)?;
        needs.memory = Some(forecast.plan.bytes());
        needs.disk = Some(forecast.disk);
        needs.seconds = Some(forecast.estimate.total_s);
        needs.obstacles = forecast.obstacles();
        return Ok(());
    }
    let model = config.stage.trained_config()?;
    let plan = rl::plan::Plan::new(b, config, &model, rollout.max_prompt_tokens, 1);
    needs.memory = Some(plan.bytes());
    needs.disk = Some(disk_bytes(
        config.stage.checkpoints_kept,
        config.reference_every().is_some(),
        &model,
        config.stage.optim.moments,
    ));
    let longest = rollout.max_prompt_tokens;
    needs.notes.push(format!("memory for prompts of {longest} tokens (rollout.max_prompt_tokens)"));
    // Prompts may be shorter: only what does not fit with the shortest is refused.
    let least = rl::plan::Plan::new(b, config, &model, 1, 1).bytes();
    if let Some(free) = b.free_memory().filter(|free| *free < least) {
        let (least, free) = (least as f64 / GIB, free as f64 / GIB);
        needs.obstacles.push(format!("it needs {least:.1} GiB of memory at least, and {free:.1} are free"));
    }
    Ok(())
}

fn reject_needs<B: Backend>(b: &B, config: &reject::RejectConfig, needs: &mut Needs) -> anyhow::Result<()> {
    let forecast = reject::Forecast::of(b, config)?;
    needs.memory = Some(forecast.memory.iter().sum());
    needs.disk = Some(forecast.disk);
    Ok(())
}

/// Of a stage that learns texts of up to `max_tokens` tokens, by a model whose contexts may become `longer`, beside which `held`
/// bytes lie.
fn learning_needs<B: Backend>(
    b: &B,
    stage: &StageConfig,
    max_tokens: usize,
    longer: Option<usize>,
    held: u64,
    needs: &mut Needs,
) -> anyhow::Result<()> {
    let model = stage.trained_config()?;
    let OptimConfig { micro_batch_tokens, moments, .. } = stage.optim;
    let rows = micro_batch_tokens.max(max_tokens.min(longer.unwrap_or(model.longest_sequence())));
    let [weights, pass] = step_bytes(b, &model, rows, &stage.optim, stage.parts(1));
    needs.memory = Some(weights + pass + held);
    needs.disk = Some(disk_bytes(stage.checkpoints_kept, false, &model, moments));
    check_memory(b, needs);
    Ok(())
}

fn check_memory<B: Backend>(b: &B, needs: &mut Needs) {
    let (Some(needed), Some(free)) = (needs.memory, b.free_memory()) else { return };
    if needed > free {
        let (needed, free) = (needed as f64 / GIB, free as f64 / GIB);
        needs.obstacles.push(format!("it needs {needed:.1} GiB of memory, and {free:.1} are free"));
    }
}
