//! `koan data`

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches, error::ErrorKind};
use koan_data::{Arithmetic, KINDS, Kind, Split, arithmetic, parse_levels, write_problems};

/// Problems: generate them
#[derive(clap::Subcommand)]
pub(crate) enum Data {
    /// Generate problems whose answers are known, with worked solutions
    #[command(subcommand)]
    Generate(Generate),
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
    #[arg(long, default_value_t = 1000)]
    n: usize,
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

impl Data {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Generate(generate) => generate.run(),
        }
    }
}

impl Generate {
    fn run(self) -> anyhow::Result<()> {
        let (problems, out) = match self {
            Self::Arithmetic(ArithmeticArgs { draw, levels, phrasing }) => {
                let levels = parse_levels(&levels, arithmetic::LEVELS.len())?;
                let split = draw.split.parse::<Split>()?;
                (Arithmetic { n: draw.n, seed: draw.seed, levels, split, phrasing }.generate()?, draw.out)
            }
            Self::Kind(kind, KindArgs { draw, levels }) => {
                let n_levels = kind.levels.len();
                let levels = parse_levels(&levels.unwrap_or_else(|| format!("1-{n_levels}")), n_levels)?;
                let split = draw.split.parse::<Split>()?;
                (
                    koan_data::Generate { kind, n: draw.n, seed: draw.seed, levels, split }.problems()?,
                    draw.out,
                )
            }
        };
        write_problems(&out, &problems)?;
        println!("{} problems in {}", problems.len(), out.display());
        Ok(())
    }
}

/// The subcommand of `kind`.
fn command(kind: &'static Kind) -> Command {
    let levels: Vec<String> =
        (1..).zip(kind.levels).map(|(level, about)| format!("{level:>4}  {about}\n")).collect();
    let mut about = kind.about.to_owned();
    about[..1].make_ascii_uppercase();
    let notes = format!(
        "Levels:\n{}\nChance that a guess is right: {}\n\n\
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
