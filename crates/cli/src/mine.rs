//! `koan mine`, in builds with the feature `mine`; in others, how to get one.

#[cfg(feature = "mine")]
mod domains;
#[cfg(feature = "mine")]
mod example;
#[cfg(feature = "mine")]
mod iterate;
#[cfg(feature = "mine")]
mod plan;
#[cfg(feature = "mine")]
mod run;
#[cfg(feature = "mine")]
mod train;

/// A maths corpus out of web crawls
///
/// WARC, WET or JSON Lines in, documents out: text with formulas as LaTeX, of one capture an URL, without near-duplicates and test items.
/// docs/guide/maths-corpus.md explains the config. Nothing is fetched.
#[cfg(feature = "mine")]
#[derive(clap::Subcommand)]
pub(crate) enum Mine {
    Run(run::RunArgs),
    Train(train::TrainArgs),
    Iterate(iterate::IterateArgs),
    Domains(domains::DomainsArgs),
    Plan(plan::PlanArgs),
    Example(example::ExampleArgs),
}

#[cfg(feature = "mine")]
impl Mine {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Run(verb) => verb.run(),
            Self::Train(verb) => verb.run(),
            Self::Iterate(verb) => verb.run(),
            Self::Domains(verb) => verb.run(),
            Self::Plan(verb) => verb.run(),
            Self::Example(verb) => verb.run(),
        }
    }
}

/// A maths corpus out of web crawls (in programs built with `--features mine`)
#[cfg(not(feature = "mine"))]
#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo build --release -p koan --features mine    # a program that has it; docs/guide/maths-corpus.md")]
pub(crate) struct Mine {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[cfg(not(feature = "mine"))]
impl Mine {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let words = self.words.join(" ");
        anyhow::bail!(
            "this program was built without `koan mine {words}`, because it needs C libraries; build one that has it by `cargo build \
             --release -p koan --features mine` (docs/guide/maths-corpus.md)"
        )
    }
}
