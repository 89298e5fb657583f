//! `koan model`

use std::path::{Path, PathBuf};

use anyhow::Context;
use koan_model::{Config, KvCache, Purpose, checkpoint::Weights, gguf};

use crate::progress::Progress;

/// Models: import them, look at them
#[derive(clap::Subcommand)]
pub(crate) enum Model {
    Import(Import),
    Info(Info),
}

/// Make a Hugging Face directory of a GGUF file: weights, config, tokenizer and chat template
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan model import SmolLM2-135M-Instruct.Q4_1.gguf --out models/smollm2")]
pub(crate) struct Import {
    /// The GGUF file
    file: PathBuf,
    /// The directory to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Show what a model is, and what it takes
#[derive(clap::Args)]
pub(crate) struct Info {
    /// The model, a Hugging Face directory
    dir: PathBuf,
}

impl Model {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Import(args) => import(&args.file, &args.out),
            Self::Info(args) => info(&args.dir),
        }
    }
}

fn import(file: &Path, out: &Path) -> anyhow::Result<()> {
    let mut progress: Option<Progress> = None;
    gguf::import(file, out, &mut |tensor, done, of| {
        progress.get_or_insert_with(|| Progress::new("tensors", of)).set(done, tensor);
    })
    .with_context(|| format!("cannot import `{}`", file.display()))?;
    if let Some(progress) = progress {
        progress.finish();
    }
    info(out)
}

fn info(dir: &Path) -> anyhow::Result<()> {
    let config = Config::load(dir)?;
    Weights::open(dir, &config)?;
    let parameters = config.parameters();
    let gib = |numbers: usize| 4.0 * numbers as f64 / (1u64 << 30) as f64;
    let tied = if config.tie_word_embeddings { "the embedding" } else { "its own" };
    println!("{}: llama, {:.1} million parameters", dir.display(), parameters as f64 / 1e6);
    println!(
        "  {} layers, hidden {}, {} heads of {} sharing {} keys, mlp {}, vocabulary {}, output head {tied}",
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.head_dim,
        config.num_key_value_heads,
        config.intermediate_size,
        config.vocab_size
    );
    println!("  up to {} tokens, ended by {:?}", config.max_position_embeddings, config.eos_token_ids);
    println!(
        "  to generate: {:.2} GiB, and {:.3} MiB a token of running sequences",
        gib(2 * parameters),
        1024.0 * gib(KvCache::<koan_backend::Reference>::numbers_per_row(&config))
    );
    println!(
        "  to train: {:.2} GiB (weights, gradient, AdamW), and {:.3} MiB a token of a pass",
        gib(5 * parameters),
        1024.0 * gib(Purpose::Training.numbers_per_row(&config))
    );
    Ok(())
}
