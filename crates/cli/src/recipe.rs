//! `koan recipe`

mod cost;
mod estimate;
mod perform;
mod plan;
mod show;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use koan_backend::Backend;
use koan_files::replace;
use koan_recipe::{BUNDLED, Bundled, Changes, Kind, Outcome, Rates, Recipe as File, RecipeDir, Selection};

use self::perform::Performer;
use crate::{
    device::{Device, Job, Running},
    interrupt::is_asked,
    numbers::amount,
};

/// The version of this program, which is on record with what it makes.
const CODE: &str = env!("KOAN_VERSION");

/// Many steps as one: stages, data and measurements, joined by names; each is made once
#[derive(clap::Subcommand)]
pub(crate) enum Recipe {
    Run(Run),
    Plan(Plan),
    Show(Show),
    List(List),
    Copy(Copy),
}

#[derive(clap::Args)]
pub(crate) struct Named {
    /// The recipe: a file, or the name of one that comes with koan (`koan recipe list`); docs/guide/recipes.md says how to write one
    #[arg(value_name = "FILE.toml|NAME")]
    recipe: PathBuf,
    /// The recipe in small, as its table `[quick]` says: every step, in a run_dir of its own
    #[arg(long)]
    quick: bool,
    /// Where everything goes, in the place of the recipe's `run_dir`
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Change one setting of a step, e.g. `--set taught.optim.lr=2e-5`, or the recipe's `seed`. Repeatable
    #[arg(long = "set", value_name = "STEP.KEY=VALUE")]
    set: Vec<String>,
}

impl Named {
    /// The recipe `name` that comes with koan.
    pub(crate) fn bundled(name: &str, quick: bool, run_dir: Option<PathBuf>) -> Self {
        Self { recipe: name.into(), quick, run_dir, set: Vec::new() }
    }

    fn read(&self) -> anyhow::Result<File> {
        let Self { recipe, quick, run_dir, set } = self;
        let changes = Changes { quick: *quick, run_dir: run_dir.clone(), set: set.clone() };
        Ok(File::read(recipe, &changes)?)
    }
}

#[derive(clap::Args)]
struct Priced {
    /// What an hour of this machine costs, in any currency
    #[arg(long, value_name = "PRICE", value_parser = amount)]
    price_per_hour: Option<f64>,
    /// What this machine takes while it works, watts: for energy, where the machine itself does not tell
    #[arg(long, value_name = "W", value_parser = amount)]
    watts: Option<f64>,
}

impl Priced {
    fn rates(&self) -> Rates {
        Rates { watts: self.watts, price_per_hour: self.price_per_hour }
    }
}

/// Make all steps of a recipe that are not made
///
/// A step whose settings and inputs (by content) are those that it was made with is not made again, unless a newer koan makes other bytes of them. What was made of
/// others is moved to `superseded/`, never deleted. Stopped by Ctrl-C, killed or failed, the same command goes on where it was, and ends
/// with the bytes of a run that was never interrupted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan recipe run self-taught-arithmetic --quick
  koan recipe run self-taught-arithmetic --watts 65 --price-per-hour 0.40
  koan recipe run self-taught-arithmetic --until measured-before
  koan recipe run mine.toml --only measured-after --threads 1

A recipe:
  run_dir = \"runs/mine\"
  [[step]]
  name = \"chosen\"
  kind = \"reject\"            # its settings are those of koan reject FILE.toml
  model = \"models/smollm2\"
  data = \"data/problems.jsonl\"
  [[step]]
  name = \"taught\"
  kind = \"sft\"
  model = \"models/smollm2\"
  data = \"@chosen\"           # what the step `chosen` makes
  epochs = 2")]
pub(crate) struct Run {
    #[command(flatten)]
    named: Named,
    /// Begin with this step; those before it must be made, and are taken as they are
    #[arg(long, value_name = "STEP", conflicts_with = "only")]
    from: Option<String>,
    /// End after this step
    #[arg(long, value_name = "STEP", conflicts_with = "only")]
    until: Option<String>,
    /// This step alone
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
    #[command(flatten)]
    priced: Priced,
    #[command(flatten)]
    device: Device,
}

/// What a recipe takes: which steps will be made and why, memory, disk, and where it can be told time, tokens and money
///
/// Nothing is made. Where a step reads a model that an earlier one makes, its sizes are those of the model that one starts from. What
/// can't be known yet is said. Fails if something does not fit.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan recipe plan self-taught-arithmetic --price-per-hour 0.40")]
pub(crate) struct Plan {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    priced: Priced,
    #[command(flatten)]
    device: Device,
}

/// The tree of a recipe's steps, with their state and results, and a table of what they cost, beside the paper's
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan recipe show self-taught-arithmetic --price-per-hour 0.40
  koan recipe show self-taught-arithmetic --json
  koan recipe show self-taught-arithmetic --trace arithmetic-17")]
pub(crate) struct Show {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    priced: Priced,
    /// Write JSON: the state of each step, with the hashes of what it read and made
    #[arg(long)]
    json: bool,
    /// Where the row with this `id` comes from: each step that made it or passed it on, the models that wrote it, back to its source
    #[arg(long, value_name = "ROW_ID", conflicts_with_all = ["json", "price_per_hour", "watts"])]
    trace: Option<String>,
}

/// The recipes that come with koan
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan recipe list
  koan recipe copy self-taught-arithmetic mine.toml")]
pub(crate) struct List {}

/// Write a recipe that comes with koan to a file, to change it
///
/// The paths in it are relative to the directory in which koan runs. Give the copy another `run_dir` before you change steps.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan recipe copy self-taught-arithmetic mine.toml")]
pub(crate) struct Copy {
    /// Its name
    name: String,
    /// The file to write; it must not be there yet [default: NAME.toml]
    #[arg(value_name = "FILE.toml")]
    file: Option<PathBuf>,
}

/// Where the row `id` of the recipe in directory `dir` comes from, for the page of `koan view`; or why that is not known.
pub(crate) fn trace_for_page(dir: &Path, id: &str) -> Result<serde_json::Value, String> {
    show::trace_as_json(dir, id).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

impl Recipe {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Run(run) => run.device.clone().run(run),
            Self::Plan(plan) => plan.device.clone().run(plan),
            Self::Show(show) => match &show.trace {
                Some(id) => show::trace(&show.named.read()?, id),
                None => show::show(&show.named.read()?, show.priced.rates(), show.json),
            },
            Self::List(List {}) => list(),
            Self::Copy(copy) => copy.run(),
        }
    }
}

fn list() -> anyhow::Result<()> {
    let width = BUNDLED.iter().map(|bundled| bundled.name.len()).max().unwrap_or(0);
    for bundled in BUNDLED {
        say!("{:width$}  {}", bundled.name, bundled.about())?;
    }
    Ok(say!(
        "\nkoan recipe run NAME runs one (--quick: in small), koan recipe copy NAME FILE.toml writes it to a file"
    )?)
}

impl Copy {
    fn run(self) -> anyhow::Result<()> {
        let bundled = Bundled::named(&self.name)?;
        let file = self.file.unwrap_or_else(|| format!("{}.toml", bundled.name).into());
        ensure!(!file.is_file(), "`{}` is there already", file.display());
        replace(&file, bundled.text.as_bytes())?;
        note!("`{}` is written: koan recipe run {0}", file.display());
        Ok(())
    }
}

impl Job for Run {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let rates = self.priced.rates();
        let Self { named, from, until, only, .. } = self;
        run(b, running, &named, Selection { from, until, only }, rates)
    }
}

/// Makes the steps of a recipe that are not made, and says how it ended.
pub(crate) fn run<B: Backend>(
    b: &B,
    running: Running,
    named: &Named,
    selection: Selection,
    rates: Rates,
) -> anyhow::Result<()> {
    let recipe = named.read()?;
    let mut performer = Performer { b, running, rates, peak: None };
    koan_recipe::check(&recipe, &selection.places(&recipe)?, &performer)?;
    if !RecipeDir::is_in_use(&recipe.run_dir) {
        plan::refuse_what_does_not_fit(b, &recipe, &selection)?;
    }
    match koan_recipe::run(&recipe, &selection, CODE, &mut performer, &is_asked)? {
        Outcome::Made => {
            for step in selection.places(&recipe)? {
                let summary = recipe.dir(step).join("summary.txt");
                if recipe.steps[step].kind == Kind::Report && summary.exists() {
                    let page = recipe.run_dir.join("report.html");
                    say!("\n{}\nthe report: {}\n", fs::read_to_string(summary)?, page.display())?;
                }
            }
            let quick = if recipe.quick { " --quick" } else { "" };
            say!("all is made; `koan recipe show {}{quick}` says what", recipe.path.display())?;
        }
        Outcome::Stopped(step) => {
            say!("stopped before `{step}` was made; the same command goes on where it was")?;
        }
        Outcome::Waiting(step, what) => say!("`{step}` waits for people:\n\n  {what}\n")?,
    }
    Ok(())
}

impl Job for Plan {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let recipe = self.named.read()?;
        let performer = Performer { b, running, rates: Rates::default(), peak: None };
        koan_recipe::check(&recipe, &(0..recipe.steps.len()).collect::<Vec<_>>(), &performer)?;
        plan::print(b, running, &recipe, self.priced.rates())
    }
}
