//! A recipe's steps, one after the other:
//!
//! ```text
//! check every step
//! for each step:
//!     made of the same before: nothing to do                                  (standing.rs)
//!     made of something else: move that out of the way                        (directory.rs)
//!     make it; a stage that was begun goes on from its newest checkpoint
//!     say what it made, by hash, and what it took                             (figures.rs)
//! ```
//!
//! The state of a step is written before and after, whole: a kill at any moment leaves a recipe that goes on.

use std::{error::Error, fs, path::PathBuf};

use koan_files::FilesError;
use koan_train::cost::Meter;
use toml::Table;

use crate::{
    Kind, Output, Peak, Rates, Recipe, RecipeDir, RecipeError, Source, Standing, State, StepState, figures,
    inputs, own, standing,
};

/// A step that is to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// Its settings, with paths in the place of names; those of a stage have its `run_dir`.
    pub settings: Table,
    /// The directory in which it is made.
    pub dir: PathBuf,
    /// The recipe's file, for errors.
    pub recipe: PathBuf,
}

impl Job {
    /// Step `place` of `recipe`, with the path of each source as `path_of` says.
    pub fn of(recipe: &Recipe, place: usize, path_of: &dyn Fn(&Source) -> PathBuf) -> Self {
        let (step, dir) = (&recipe.steps[place], recipe.dir(place));
        let mut settings = inputs::with_paths(recipe, place, path_of);
        if step.kind.is_stage() {
            settings.insert("run_dir".to_owned(), dir.to_string_lossy().into_owned().into());
        }
        let (name, kind) = (step.name.clone(), step.kind);
        Self { name, kind, settings, dir, recipe: recipe.path.clone() }
    }

    fn at_its_place(recipe: &Recipe, place: usize) -> Self {
        Self::of(recipe, place, &|source| match source {
            Source::Path(path) | Source::Step { path, .. } => path.clone(),
        })
    }
}

/// How the work of a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is made.
    Made,
    /// It was asked to stop, and goes on.
    Stopped,
    /// It waits for people: what they are to do.
    Waiting(String),
}

/// What a recipe says while it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step is made already.
    Skipped {
        /// The step.
        name: &'a str,
    },
    /// A step begins, or goes on.
    Begins {
        /// The step.
        name: &'a str,
        /// What it does.
        kind: Kind,
        /// Its number, from 1, and how many there are.
        number: [usize; 2],
        /// Why it is made.
        standing: &'a Standing,
    },
    /// What a step made of something else before was moved out of the way.
    SetAside {
        /// The step.
        name: &'a str,
        /// Where it is now.
        path: &'a std::path::Path,
    },
    /// A step is made.
    Made {
        /// What it made, and what it took.
        state: &'a StepState,
    },
}

/// How steps are made: by whoever has the device.
pub trait Perform {
    /// Refuses settings that make no sense, before anything is made. What the step reads may be missing yet.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, job: &Job) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Makes a step. One that was begun before goes on.
    ///
    /// # Errors
    /// Why it can't be made.
    fn perform(&mut self, job: &Job) -> Result<Ended, Box<dyn Error + Send + Sync>>;

    /// Hears how far the recipe is.
    fn hear(&mut self, event: Event);

    /// The most that the device computes, and how that is known; asked for once there is a step that computed something.
    fn peak(&mut self) -> Option<Peak>;

    /// What this machine takes and costs.
    fn rates(&self) -> Rates;
}

/// Which steps are run; the others are taken as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The first step, by its name.
    pub from: Option<String>,
    /// The last.
    pub until: Option<String>,
    /// The only one.
    pub only: Option<String>,
}

impl Selection {
    /// The places of the steps.
    ///
    /// # Errors
    /// Names that no step has, or a last step before the first.
    pub fn places(&self, recipe: &Recipe) -> Result<Vec<usize>, RecipeError> {
        let place = |name: &Option<String>| name.as_deref().map(|name| recipe.step(name)).transpose();
        if let Some(only) = place(&self.only)? {
            return Ok(vec![only]);
        }
        let first = place(&self.from)?.unwrap_or(0);
        let last = place(&self.until)?.unwrap_or(recipe.steps.len() - 1);
        if first > last {
            let message = format!("`{}` comes after `{}`", recipe.steps[first].name, recipe.steps[last].name);
            return Err(RecipeError::Parse { path: recipe.path.clone(), message });
        }
        Ok((first..=last).collect())
    }

    /// The option that leaves out a step.
    fn option(&self) -> &'static str {
        match (&self.only, &self.from) {
            (Some(_), _) => "--only",
            (None, Some(_)) => "--from",
            (None, None) => "--until",
        }
    }
}

/// How a recipe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps that were asked for are made.
    Made,
    /// It was asked to stop in this step, and goes on.
    Stopped(String),
    /// This step waits for people: what they are to do.
    Waiting(String, String),
}

/// Refuses a recipe of whose steps in `places` the settings make no sense, or which reads what is not there.
///
/// # Errors
/// As said, with the step.
pub fn check(recipe: &Recipe, places: &[usize], work: &dyn Perform) -> Result<(), RecipeError> {
    for &place in places {
        let job = Job::at_its_place(recipe, place);
        let checked = if own::is_one(job.kind) {
            own::check(job.kind, &job.settings).map_err(Into::into)
        } else {
            work.check(&job)
        };
        checked.map_err(|source| RecipeError::Settings {
            path: recipe.path.clone(),
            step: job.name.clone(),
            source,
        })?;
    }
    inputs::check_there(recipe, places)
}

/// Makes the steps of `recipe` that are not made, with a program of version `code`; ends early where `is_stopped` says so.
///
/// # Errors
/// What is wrong with the recipe, before anything is made; a directory that is in use or another recipe's; a step that fails.
pub fn run(
    recipe: &Recipe,
    selection: &Selection,
    code: &str,
    work: &mut dyn Perform,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Outcome, RecipeError> {
    let places = selection.places(recipe)?;
    check(recipe, &places, work)?;
    let dir = RecipeDir::open(recipe)?;
    check_left_out(recipe, &places, selection, code)?;
    for (i, &place) in places.iter().enumerate() {
        let name = &recipe.steps[place].name;
        if is_stopped() {
            return Ok(Outcome::Stopped(name.clone()));
        }
        let (standing, state) = standing::of(recipe, place, code)?;
        if standing == Standing::Done {
            work.hear(Event::Skipped { name });
            continue;
        }
        let kind = recipe.steps[place].kind;
        if matches!(standing, Standing::Changed(_))
            && let Some(path) = dir.set_aside(name, kind)?
        {
            work.hear(Event::SetAside { name, path: &path });
        }
        work.hear(Event::Begins { name, kind, number: [i + 1, places.len()], standing: &standing });
        match make(recipe, place, state, &dir, work)? {
            Ended::Made => {}
            Ended::Stopped => return Ok(Outcome::Stopped(name.clone())),
            Ended::Waiting(what) => return Ok(Outcome::Waiting(name.clone(), what)),
        }
    }
    Ok(Outcome::Made)
}

/// Refuses a run that leaves out steps which the others need, if they are not made as they would be made now.
fn check_left_out(
    recipe: &Recipe,
    places: &[usize],
    selection: &Selection,
    code: &str,
) -> Result<(), RecipeError> {
    let (mut open, mut seen): (Vec<usize>, Vec<usize>) = (places.to_vec(), Vec::new());
    while let Some(place) = open.pop() {
        for need in recipe.needs(place) {
            if places.contains(&need) || seen.contains(&need) {
                continue;
            }
            seen.push(need);
            open.push(need);
        }
    }
    seen.sort_unstable();
    for need in seen {
        let (standing, _) = standing::of(recipe, need, code)?;
        if standing != Standing::Done {
            let reads = |place: &&usize| recipe.needs(**place).contains(&need);
            let needed_by = places.iter().find(reads).or(places.first()).copied().unwrap_or(need);
            return Err(RecipeError::NotMade {
                step: recipe.steps[need].name.clone(),
                needed_by: recipe.steps[needed_by].name.clone(),
                why: standing.to_string(),
                option: selection.option(),
            });
        }
    }
    Ok(())
}

/// Makes step `place`, which begins with `state`.
fn make(
    recipe: &Recipe,
    place: usize,
    mut state: StepState,
    dir: &RecipeDir,
    work: &mut dyn Perform,
) -> Result<Ended, RecipeError> {
    let job = Job::at_its_place(recipe, place);
    let rates = work.rates().or(state.cost);
    state.cost = state.cost.at(rates);
    dir.write(&state)?;
    fs::create_dir_all(&job.dir).map_err(FilesError::io("create", &job.dir))?;
    let (before, write) = (state.cost, dir.writer(state.clone()));
    let meter = Meter::start(before.spent(), move |spent| write(before.with(spent).at(rates)));
    let ended = if own::is_one(job.kind) {
        own::make(&job).map(|()| Ended::Made).map_err(Into::into)
    } else {
        work.perform(&job)
    };
    state.cost = before.with(meter.finish()).at(rates);
    if state.cost.flops > 0.0 {
        state.cost = state.cost.of_peak(work.peak());
    }
    let made = ended.map_err(|source| RecipeError::Failed { step: job.name.clone(), source });
    let finished = made.and_then(|ended| {
        if ended == Ended::Made {
            state.outputs = outputs(&job)?;
            figures::add(&mut state, &job);
        }
        Ok(ended)
    });
    (state.state, state.message) = match &finished {
        Ok(Ended::Made) => (State::Done, None),
        Ok(Ended::Stopped) => (State::Stopped, None),
        Ok(Ended::Waiting(what)) => (State::Waiting, Some(what.clone())),
        Err(error) => (State::Failed, Some(in_words(error))),
    };
    dir.write(&state)?;
    if state.state == State::Done {
        work.hear(Event::Made { state: &state });
    }
    finished
}

/// What `job` made, by hash.
fn outputs(job: &Job) -> Result<Vec<Output>, RecipeError> {
    let mut paths: Vec<PathBuf> =
        job.kind.artefacts(&job.settings).iter().map(|artefact| job.dir.join(artefact.path)).collect();
    match job.kind {
        Kind::Report => paths.push(job.dir.join("result.json")),
        // Of other measurements the completions: their report says how long it took, too, and no two are the same.
        Kind::Eval if paths.is_empty() => paths.push(job.dir.join("report.json")),
        _ => {}
    }
    let output = |path: PathBuf| match inputs::hash(&path) {
        Ok(sha256) => Ok(Output { path, sha256 }),
        Err(_) => Err(RecipeError::NothingMade { step: job.name.clone(), path }),
    };
    paths.into_iter().map(output).collect()
}

/// An error with its causes, without the first, which names the step.
fn in_words(error: &RecipeError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use super::*;
    use crate::{Changes, cost::StepCost};

    /// Makes steps of kind `problems`; fails once, after a while.
    struct Maker {
        fails: bool,
        rates: Rates,
    }

    impl Perform for Maker {
        fn check(&self, _: &Job) -> Result<(), Box<dyn Error + Send + Sync>> {
            Ok(())
        }

        fn perform(&mut self, job: &Job) -> Result<Ended, Box<dyn Error + Send + Sync>> {
            thread::sleep(Duration::from_millis(30));
            if self.fails {
                return Err("no more".into());
            }
            fs::write(job.dir.join("data.jsonl"), "{}\n")?;
            Ok(Ended::Made)
        }

        fn hear(&mut self, _: Event) {}

        fn peak(&mut self) -> Option<Peak> {
            None
        }

        fn rates(&self) -> Rates {
            self.rates
        }
    }

    #[test]
    fn a_step_costs_what_all_its_processes_took() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("r.toml");
        let write = |n: u32| {
            fs::write(&file, format!("run_dir = 'r'\n[[step]]\nname = 'p'\nkind = 'problems'\nn = {n}\n"))
                .expect("written");
        };
        let dir = folder.path().join("run");
        let go = |fails: bool, rates: Rates| -> StepCost {
            let recipe = Recipe::read(&file, &Changes { run_dir: Some(dir.clone()), ..Changes::default() })
                .expect("a recipe");
            let ended = run(&recipe, &Selection::default(), "1", &mut Maker { fails, rates }, &|| false);
            assert_eq!(ended.is_err(), fails);
            RecipeDir::state(&dir, "p").expect("read").expect("begun").cost
        };
        write(1);
        let first = go(true, Rates { watts: Some(3600.0), price_per_hour: Some(3600.0) });
        assert!(first.seconds >= 0.03, "{first:?}");
        let all = go(false, Rates::default());
        assert!(all.seconds >= first.seconds + 0.03, "{first:?} {all:?}");
        let close = |value: Option<f64>| (value.expect("known") - all.seconds).abs() < 1e-9;
        assert!(close(all.energy_wh) && close(all.money), "at the rates that were stated before: {all:?}");
        assert_eq!(go(false, Rates::default()), all, "it is not made again");
        write(2);
        let again = go(false, Rates::default());
        assert!(again.seconds < all.seconds && again.money.is_none(), "{again:?}: of other settings");
        let before = fs::read_to_string(dir.join("superseded/p-1.json")).expect("there");
        assert!(before.contains(&all.seconds.to_string()), "{before}");
    }
}
