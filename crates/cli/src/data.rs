//! `koan data`

pub(crate) mod decontaminate;

use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{ArgMatches, Args as _, Command, FromArgMatches, error::ErrorKind};
use koan_data::convert::{Conversion, Limits, MAX_TEST_BYTES, MAX_TESTS, SHAPES};
use koan_data::stats::{Counts, Histogram, Lengths};
use koan_data::{
    Arithmetic, CountTokens, DataFiles, Demonstration, KINDS, Kind, Message, Problem, Split, Stats,
    arithmetic, import, parse_levels, stats, write_problems,
};
use koan_hub::{Hub, Wanted};
use koan_infer::{Codec, PromptStyle};
use koan_text::Tokenizer;
use koan_train::supervised::demonstration_tokens;
use serde_json::{Map, Value};

use crate::{numbers::rows, output::Stdout, progress::Progress};

/// How often long work says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Problems: generate them; what files of data hold
#[derive(clap::Subcommand)]
pub(crate) enum Data {
    /// Generate problems whose answers are known, with worked solutions
    #[command(subcommand)]
    Generate(Generate),
    Convert(ConvertArgs),
    Decontaminate(decontaminate::DecontaminateArgs),
    Import(ImportArgs),
    Pull(PullArgs),
    Stats(StatsArgs),
}

/// What to generate: `arithmetic`, or a kind of the library's table.
pub(crate) enum Generate {
    Arithmetic(ArithmeticArgs),
    Kind(&'static Kind, KindArgs),
}

/// What every kind takes
#[derive(clap::Args)]
pub(crate) struct Draw {
    /// How many problems
    #[arg(long, default_value = "1000", value_parser = rows)]
    n: NonZeroUsize,
    /// Which side of the split: train, test or all
    #[arg(long, default_value = "train")]
    split: String,
    /// Keys the choice of problems
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the problems go, JSON Lines
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Sums, differences and products in twelve levels of difficulty
///
/// Training and test problems are disjoint: an expression is on one side by a hash of itself, whatever the seed.
#[derive(clap::Args)]
#[command(
    after_help = "Levels: 1 d + d; 2 dd + d; 3 dd + dd; 4 a - b, not below 0; 5 a - b, below 0; 6 d * d;
7 d ± d ± d; 8 dd * d; 9 ddd ± ddd; 10 dd ± dd ± dd; 11 dd * dd; 12 dd ± d * d

Example:
  koan data generate arithmetic --n 1600 --out train.jsonl
  koan data generate arithmetic --n 170 --split test --out held-out.jsonl"
)]
pub(crate) struct ArithmeticArgs {
    #[command(flatten)]
    draw: Draw,
    /// Levels, such as 1-3 or 1,4; problems take turns
    #[arg(long, default_value = "2-3")]
    levels: String,
    /// The question, with `{expression}` where the expression goes
    #[arg(long, default_value = arithmetic::DEFAULT_PHRASING)]
    phrasing: String,
}

#[derive(clap::Args)]
pub(crate) struct KindArgs {
    #[command(flatten)]
    draw: Draw,
    /// Levels, such as 1-3 or 1,4; problems take turns; default: all
    #[arg(long)]
    levels: Option<String>,
}

/// Problems from another format
///
/// gsm8k: the files of github.com/openai/grade-school-math, JSON Lines of `question` and `answer`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan data import train.jsonl --format gsm8k --out data/gsm8k-train.jsonl")]
pub(crate) struct ImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its format: gsm8k
    #[arg(long)]
    format: String,
    /// Where the problems go, JSON Lines
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Fetch a data set from a hub: its data files, checked
///
/// HF_ENDPOINT names another hub; HF_TOKEN is the token for data that are not open. An interrupted pull goes on where it
/// stopped when it is run again.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan data pull openai/gsm8k --split train
  koan data pull open-r1/OpenR1-Math-220k --file 'data/*' --out data/openr1
  koan data pull livecodebench/code_generation_lite --file test6.jsonl")]
pub(crate) struct PullArgs {
    /// The data set on the hub
    #[arg(value_name = "OWNER/NAME")]
    name: String,
    /// Only files of this split: train, test, … Repeatable
    #[arg(long, value_name = "NAME")]
    split: Vec<String>,
    /// Only this file, or files of this pattern. Repeatable
    #[arg(long, value_name = "FILE")]
    file: Vec<String>,
    /// The directory to make; it must not exist [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
}

/// Published data sets made Koan's: problems, demonstrations, preferences
///
/// The shape of the files is recognised by their fields, and named; rows that can't be carried over are counted by reason
/// and shown. Files may be JSON Lines, JSON arrays or Parquet, in gzip or zstd.
#[derive(clap::Args)]
#[command(after_help = shapes())]
pub(crate) struct ConvertArgs {
    /// The files, or patterns of them, all of one shape
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the rows go, JSON Lines, whole or not at all
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The shape of the files, if it is not to be recognised
    #[arg(long, value_name = "SHAPE", conflicts_with = "map")]
    from: Option<String>,
    /// Which field is which instead: prompt=problem,answer=solution; a part of a field as in reward_model.ground_truth or completions.0.text
    #[arg(long, value_name = "FIELD=THEIRS,…")]
    map: Option<String>,
    /// Tests of a problem that are kept, at most: the shortest half, and a sample of the others
    #[arg(long, value_name = "N", default_value_t = MAX_TESTS)]
    max_tests: usize,
    /// Bytes of the tests of a problem, at most
    #[arg(long, value_name = "BYTES", default_value_t = MAX_TEST_BYTES)]
    max_test_bytes: usize,
}

/// The shapes that are known, for `--help`.
fn shapes() -> String {
    let lines = SHAPES.iter().map(|shape| format!("  {:<22} {}\n", shape.name, shape.about));
    format!(
        "Shapes:\n{}\nExamples:\n  koan data convert train.parquet --out problems.jsonl\n  \
         koan data convert 'data/train-*.parquet' --from openr1-sft --out demonstrations.jsonl\n  \
         koan data convert mine.json --map prompt=frage,answer=antwort,meta.level=stufe --out problems.jsonl",
        lines.collect::<String>()
    )
}

/// What files of any format hold: rows, fields, lengths, repetitions, bad lines
///
/// Problems, code problems, SFT, preference and text files, and what generate and verify write. Each row is read as the
/// stage that learns from it reads it; what it would refuse is counted, with its reason.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan data stats train.jsonl held-out.jsonl --model models/base")]
pub(crate) struct StatsArgs {
    /// The files, or patterns of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A model whose tokenizer and chat template count tokens, as rl and sft do
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Write JSON, an object a file
    #[arg(long)]
    json: bool,
}

impl Data {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Convert(convert) => convert.run(),
            Self::Decontaminate(decontaminate) => decontaminate.run(),
            Self::Import(import) => import.run(),
            Self::Pull(pull) => pull.run(),
            Self::Stats(stats) => stats.run(),
        }
    }
}

impl Generate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let (problems, out) = (self.problems()?, self.out());
        write_problems(out, &problems)?;
        say!("{} problems in {}", problems.len(), out.display())?;
        Ok(())
    }

    /// The problems.
    ///
    /// # Errors
    /// Unknown levels or splits, and more problems than there are.
    pub(crate) fn problems(&self) -> anyhow::Result<Vec<Problem>> {
        Ok(match self {
            Self::Arithmetic(ArithmeticArgs { draw, levels, phrasing }) => {
                let levels = parse_levels(levels, arithmetic::LEVELS.len())?;
                let split = draw.split.parse::<Split>()?;
                let phrasing = phrasing.clone();
                Arithmetic { n: draw.n.get(), seed: draw.seed, levels, split, phrasing }.generate()?
            }
            Self::Kind(kind, KindArgs { draw, levels }) => {
                let n_levels = kind.levels.len();
                let all = format!("1-{n_levels}");
                let levels = parse_levels(levels.as_deref().unwrap_or(&all), n_levels)?;
                let split = draw.split.parse::<Split>()?;
                koan_data::Generate { kind, n: draw.n.get(), seed: draw.seed, levels, split }.problems()?
            }
        })
    }

    fn out(&self) -> &Path {
        match self {
            Self::Arithmetic(ArithmeticArgs { draw, .. }) | Self::Kind(_, KindArgs { draw, .. }) => &draw.out,
        }
    }
}

impl PullArgs {
    fn run(self) -> anyhow::Result<()> {
        let Self { name, split: splits, file: files, out, revision } = self;
        let out = out.unwrap_or_else(|| Path::new("data").join(name.rsplit('/').next().unwrap_or(&name)));
        let mut bar: Option<Progress> = None;
        let mebi = |bytes: u64| (bytes >> 20) as usize;
        let wanted = Wanted { splits, files };
        let pulled = Hub::from_env()?.pull_data(&name, &revision, &wanted, &out, &mut |progress| {
            bar.get_or_insert_with(|| Progress::new("MiB", mebi(progress.of.max(progress.done))))
                .set(mebi(progress.done), progress.file);
        })?;
        if let Some(bar) = bar {
            bar.finish();
        }
        say!("{name} at {}: {} files in {}", pulled.commit, pulled.files.len(), out.display())?;
        for file in &pulled.files {
            say!("  {}", out.join(file).display())?;
        }
        Ok(())
    }
}

impl ConvertArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let conversion = Conversion {
            files: self.files.into(),
            from: self.from,
            mapping: self.map.map(|map| map.parse()).transpose()?,
            limits: Limits { tests: self.max_tests, bytes: self.max_test_bytes },
        };
        let (start, mut told) = (Instant::now(), Instant::now());
        let report = conversion.run(&self.out, &mut |read| {
            if told.elapsed() > TOLD_EVERY {
                told = Instant::now();
                note!("{read} rows read, {:.0} s", start.elapsed().as_secs_f64());
            }
        })?;
        say!("{}: {report}", report.shape)?;
        Ok(say!("{} rows in {}", report.written, self.out.display())?)
    }
}

impl ImportArgs {
    fn run(self) -> anyhow::Result<()> {
        let problems = import(&self.file, self.format.parse()?)?;
        write_problems(&self.out, &problems)?;
        say!("{} problems in {}", problems.len(), self.out.display())?;
        Ok(())
    }
}

/// A model that counts tokens as its stages do.
struct Model<'a> {
    codec: &'a Codec,
    tokenizer: &'a Tokenizer,
}

impl CountTokens for Model<'_> {
    fn text(&mut self, text: &str) -> Result<usize, String> {
        Ok(self.tokenizer.encode(text, false).map_err(whole)?.len())
    }

    fn prompt(&mut self, messages: &[Message], row: &Map<String, Value>) -> Result<usize, String> {
        Ok(self.codec.encode(messages, row).map_err(whole)?.len())
    }

    fn demonstration(&mut self, demonstration: &Demonstration) -> Result<usize, String> {
        demonstration_tokens(self.tokenizer, &self.codec.stop_ids(), demonstration).map_err(whole)
    }
}

/// An error with its causes, in one sentence.
fn whole(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

impl StatsArgs {
    fn run(self) -> anyhow::Result<()> {
        let codec = self.model.as_deref().map(|dir| Codec::open(dir, PromptStyle::default())).transpose()?;
        let mut model = match &codec {
            Some(codec) => Some(Model { codec, tokenizer: codec.tokenizer()? }),
            None => None,
        };
        let mut all = Vec::new();
        for file in DataFiles::from(self.files).paths()? {
            let tokens = model.as_mut().map(|model| model as &mut dyn CountTokens);
            all.push(stats(&file, tokens)?);
        }
        let mut out = BufWriter::new(Stdout);
        for stats in &all {
            if self.json {
                writeln!(out, "{}", serde_json::to_string(stats)?)?;
            } else {
                print(&mut out, stats)?;
            }
        }
        out.flush()?;
        let unreadable: Vec<_> = all.iter().filter(|stats| stats.has_no_rows()).collect();
        if let Some(stats) = unreadable.first() {
            let why = stats.bad_lines.first().map(|(line, reason)| format!("; line {line}: {reason}"));
            bail!(
                "{} has no row that can be read{}; `koan data convert --help` lists what can be converted",
                stats.file.display(),
                why.unwrap_or_default()
            );
        }
        Ok(())
    }
}

fn print(out: &mut impl Write, stats: &Stats) -> io::Result<()> {
    let rows = |counts: &Counts| {
        let names = counts.iter().map(|(name, n)| format!("{name} {n}"));
        names.collect::<Vec<_>>().join(", ")
    };
    writeln!(out, "{}: {} rows ({})", stats.file.display(), stats.rows, rows(&stats.formats))?;
    writeln!(out, "  {} rows repeat an earlier prompt, {} are refused", stats.repeated, stats.bad)?;
    for (line, reason) in &stats.bad_lines {
        writeln!(out, "  line {line}: {reason}")?;
    }
    writeln!(out, "  {:<16}{:>10}", "field", "rows")?;
    for (field, n) in &stats.fields {
        writeln!(out, "  {field:<16}{n:>10}{:>8.1}%", 100.0 * *n as f64 / stats.rows.max(1) as f64)?;
    }
    let columns = ["n", "min", "mean", "p50", "p95", "max"].map(|name| format!("{name:>9}")).concat();
    writeln!(out, "  {:<28}{columns}", "length")?;
    for (part, Lengths { characters, tokens }) in &stats.lengths {
        for (unit, lengths) in [("characters", characters), ("tokens", tokens)] {
            if !lengths.is_empty() {
                writeln!(out, "  {:<28}{}", format!("{part}, {unit}"), columns_of(lengths))?;
            }
        }
    }
    for (name, counts) in &stats.counts {
        writeln!(out, "  {name}: {}", rows(counts))?;
    }
    Ok(())
}

fn columns_of(lengths: &Histogram) -> String {
    let [n, min, p50, p95, max] =
        [lengths.n(), lengths.min(), lengths.percentile(50), lengths.percentile(95), lengths.max()];
    format!("{n:>9}{min:>9}{:>9.1}{p50:>9}{p95:>9}{max:>9}", lengths.mean())
}

/// The subcommand of `kind`.
fn command(kind: &'static Kind) -> Command {
    let levels: Vec<String> =
        (1..).zip(kind.levels).map(|(level, about)| format!("{level:>4}  {about}\n")).collect();
    let mut about = kind.about.to_owned();
    about[..1].make_ascii_uppercase();
    let notes = format!(
        "Levels:\n{}\nGuessing: {}\n\n\
         Each problem has a worked solution. Training and test problems are disjoint, whatever the seeds.\n\n\
         Example:\n  koan data generate {name} --n 1000 --levels 1-2 --out {name}.jsonl",
        levels.concat(),
        kind.chance,
        name = kind.name
    );
    KindArgs::augment_args(Command::new(kind.name)).about(about).after_help(notes)
}

impl clap::Subcommand for Generate {
    fn augment_subcommands(parent: Command) -> Command {
        let arithmetic = ArithmeticArgs::augment_args(Command::new("arithmetic"));
        parent.subcommand(arithmetic).subcommands(KINDS.iter().map(command)).subcommand_required(true)
    }

    fn augment_subcommands_for_update(parent: Command) -> Command {
        Self::augment_subcommands(parent)
    }

    fn has_subcommand(name: &str) -> bool {
        name == "arithmetic" || Kind::by_name(name).is_some()
    }
}

impl FromArgMatches for Generate {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        match Kind::by_name(name) {
            Some(kind) => Ok(Self::Kind(kind, KindArgs::from_arg_matches(matches)?)),
            None => Ok(Self::Arithmetic(ArithmeticArgs::from_arg_matches(matches)?)),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
