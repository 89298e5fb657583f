//! `koan data`

use std::path::PathBuf;

use koan_data::{Arithmetic, Split, arithmetic, write_problems};

/// Problems: generate them
#[derive(clap::Subcommand)]
pub(crate) enum Data {
    /// Generate problems whose answers are known
    #[command(subcommand)]
    Generate(Generate),
}

#[derive(clap::Subcommand)]
pub(crate) enum Generate {
    Arithmetic(ArithmeticArgs),
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
    /// How many problems
    #[arg(long, default_value_t = 1000)]
    n: usize,
    /// Levels, such as 1-3 or 1,4; problems take turns
    #[arg(long, default_value = "2-3")]
    levels: String,
    /// Which side of the split: train, test or all
    #[arg(long, default_value = "train")]
    split: String,
    /// The question, with `{expression}` where the expression goes
    #[arg(long, default_value = arithmetic::DEFAULT_PHRASING)]
    phrasing: String,
    /// Keys the choice of expressions
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the problems go, JSON Lines
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Data {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Self::Generate(Generate::Arithmetic(args)) = self;
        let generator = Arithmetic {
            n: args.n,
            seed: args.seed,
            levels: arithmetic::parse_levels(&args.levels)?,
            split: args.split.parse::<Split>()?,
            phrasing: args.phrasing,
        };
        let problems = generator.generate()?;
        write_problems(&args.out, &problems)?;
        println!("{} problems in {}", problems.len(), args.out.display());
        Ok(())
    }
}
