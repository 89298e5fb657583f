//! `koan model`

mod card;
mod push;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use koan_hub::Hub;
use koan_model::{
    AdapterSpec, CacheForm, Config, ExpertsConfig, Purpose, RopeScaling,
    checkpoint::{self, Place, WeightType, Weights},
    gguf::{self, ExportType},
    license,
};
use koan_text::Tokenizer;

use crate::progress::Progress;

/// Models: fetch, make, import, look at, describe, export and send them
#[derive(clap::Subcommand)]
pub(crate) enum Model {
    Pull(Pull),
    Init(Init),
    Import(Import),
    Export(Export),
    Merge(Merge),
    Info(Info),
    Card(card::WriteCard),
    Push(push::Push),
}

/// Fetch a model from a Hugging Face hub: config, weights in safetensors, tokenizer, licence
///
/// HF_ENDPOINT names another hub; HF_TOKEN is the token for models that are not open. An interrupted pull goes on where it
/// stopped when it is run again.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan model pull HuggingFaceTB/SmolLM2-135M-Instruct --out models/smollm2")]
pub(crate) struct Pull {
    /// The model on the hub
    #[arg(value_name = "OWNER/NAME")]
    name: String,
    /// The directory to make; it must not exist [default: models/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
}

/// Make a fresh model with random weights
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan model init --config config.json --tokenizer models/smollm2 --seed 1 --out models/fresh
  koan model init --tiny --out models/tiny")]
pub(crate) struct Init {
    /// The sizes: a config.json of the llama, mistral, qwen2 or qwen3 family
    #[arg(long, value_name = "FILE", required_unless_present = "tiny")]
    config: Option<PathBuf>,
    /// A tiny model whose tokens are bytes, to try files and recipes with
    #[arg(long, conflicts_with_all = ["config", "tokenizer"])]
    tiny: bool,
    /// Decides the random numbers: same seed, same model
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A model directory whose tokenizer and chat template to copy
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// The directory to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
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

/// Make a GGUF file for llama.cpp of a model, or a Hugging Face directory in another precision
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan model export runs/r1/model --gguf r1.gguf --type q8_0
  koan model export runs/r1/model --out r1-bf16 --type bf16")]
#[command(group(clap::ArgGroup::new("to").required(true).args(["gguf", "out"])))]
pub(crate) struct Export {
    /// The model, a Hugging Face directory
    dir: PathBuf,
    /// The GGUF file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// The Hugging Face directory to write; it must not exist
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The type that weights are stored in; q8_0 and q4_0 in a GGUF file only; fp8 (E4M3 with a scale for every 128 x 128
    /// block, as DeepSeek-V3) in a directory only
    #[arg(long = "type", default_value = "bf16", value_name = "TYPE")]
    kind: Kind,
}

/// Make a model of a model and an adapter (LoRA) on it: weights with the adapter in them, in f32
///
/// A merged model computes what both do together up to rounding. Export it afterwards to store it in another precision.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan model merge --model models/smollm2 --adapter runs/lora/model --out models/merged")]
pub(crate) struct Merge {
    /// The base model, a Hugging Face directory; default: where the adapter says that it is
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The adapter, PEFT's directory of one
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The directory to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    F32,
    F16,
    Bf16,
    Fp8,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

/// Show what a model is (family, sizes, licence), and the memory it takes to generate and to train
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan model info models/smollm2
  koan model info SmolLM2-135M-Instruct.Q4_1.gguf")]
pub(crate) struct Info {
    /// The model: a Hugging Face directory, an adapter's (PEFT), or a GGUF file
    model: PathBuf,
}

impl Model {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Pull(args) => args.run(),
            Self::Init(args) => args.run(),
            Self::Import(args) => import(&args.file, &args.out),
            Self::Export(args) => args.run(),
            Self::Merge(args) => args.run(),
            Self::Info(args) if args.model.is_file() => gguf_info(&args.model),
            Self::Info(args) => info(&args.model),
            Self::Card(args) => args.run(),
            Self::Push(args) => args.run(),
        }
    }
}

/// Progress through tensors, shown from the first on.
#[derive(Default)]
struct Tensors(Option<Progress>);

impl Tensors {
    fn set(&mut self, tensor: &str, done: usize, of: usize) {
        self.0.get_or_insert_with(|| Progress::new("tensors", of)).set(done, tensor);
    }

    fn finish(&self) {
        if let Some(progress) = &self.0 {
            progress.finish();
        }
    }
}

impl Pull {
    fn run(self) -> anyhow::Result<()> {
        let out = self
            .out
            .unwrap_or_else(|| Path::new("models").join(self.name.rsplit('/').next().unwrap_or(&self.name)));
        let mut bar: Option<Progress> = None;
        let mebi = |bytes: u64| (bytes >> 20) as usize;
        let pulled = Hub::from_env()?.pull(&self.name, &self.revision, &out, &mut |progress| {
            bar.get_or_insert_with(|| Progress::new("MiB", mebi(progress.of.max(progress.done))))
                .set(mebi(progress.done), progress.file);
        })?;
        if let Some(bar) = bar {
            bar.finish();
        }
        say!("{} at {}: {} files", self.name, pulled.commit, pulled.files.len())?;
        info(&out)
    }
}

impl Init {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let Some(config) = &self.config else {
            koan_model::init_tiny(self.seed, &self.out)?;
            return info(&self.out);
        };
        if let Some(dir) = &self.tokenizer {
            Tokenizer::load_for(dir, Config::from_file(config)?.vocab_size)?;
        }
        let mut tensors = Tensors::default();
        let tokenizer = self.tokenizer.as_deref();
        koan_model::init(config, self.seed, tokenizer, &self.out, &mut |done, of| {
            tensors.set("", done, of);
        })?;
        tensors.finish();
        info(&self.out)
    }
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let mut tensors = Tensors::default();
        if let Some(file) = &self.gguf {
            let kind = match self.kind {
                Kind::F32 => ExportType::F32,
                Kind::F16 => ExportType::F16,
                Kind::Bf16 => ExportType::Bf16,
                Kind::Q8_0 => ExportType::Q8_0,
                Kind::Q4_0 => ExportType::Q4_0,
                Kind::Fp8 => {
                    bail!("fp8 is a type of Hugging Face directories; say --out DIR, or another --type")
                }
            };
            gguf::export(&self.dir, file, kind, &mut |tensor, done, of| tensors.set(tensor, done, of))
                .with_context(|| format!("cannot export `{}`", self.dir.display()))?;
            tensors.finish();
            let modules = Config::load(&self.dir)?.multi_token_layers;
            if modules > 0 {
                note!(
                    "left out: {modules} modules that predict further tokens, which llama.cpp does not read"
                );
            }
            return gguf_info(file);
        }
        let Some(out) = &self.out else { bail!("--gguf or --out") };
        let stored = match self.kind {
            Kind::F32 => WeightType::F32,
            Kind::F16 => WeightType::F16,
            Kind::Bf16 => WeightType::Bf16,
            Kind::Fp8 => WeightType::Fp8,
            Kind::Q8_0 | Kind::Q4_0 => {
                bail!("q8_0 and q4_0 are types of GGUF files; say --gguf FILE, or another --type")
            }
        };
        checkpoint::convert(&self.dir, out, stored, &mut |done, of| tensors.set("", done, of))?;
        tensors.finish();
        info(out)
    }
}

impl Merge {
    fn run(self) -> anyhow::Result<()> {
        let place = match &self.model {
            Some(model) => Place::find(model, Some(&self.adapter))?,
            None => Place::find(&self.adapter, None)?,
        };
        let mut tensors = Tensors::default();
        checkpoint::merge(&place, &self.out, &mut |done, of| tensors.set("", done, of))?;
        tensors.finish();
        info(&self.out)
    }
}

pub(crate) fn import(file: &Path, out: &Path) -> anyhow::Result<()> {
    let mut tensors = Tensors::default();
    gguf::import(file, out, &mut |tensor, done, of| tensors.set(tensor, done, of))
        .with_context(|| format!("cannot import `{}`", file.display()))?;
    tensors.finish();
    info(out)
}

fn gguf_info(file: &Path) -> anyhow::Result<()> {
    let info = gguf::info(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let types: Vec<String> = info.types.iter().map(|(name, count)| format!("{count} {name}")).collect();
    say!(
        "{}: {}, {:.1} million parameters, {:.2} GiB",
        file.display(),
        info.architecture,
        info.n_parameters as f64 / 1e6,
        file.metadata()?.len() as f64 / (1u64 << 30) as f64
    )?;
    say!("  tensors: {}", types.join(", "))?;
    say!("  name: {}", info.name.as_deref().unwrap_or("not stated"))?;
    say!("  licence: {}", info.license.as_deref().unwrap_or("not stated"))?;
    Ok(())
}

fn adapter_info(dir: &Path) -> anyhow::Result<()> {
    let place = Place::find(dir, None)?;
    let config = place.config()?;
    Weights::open_at(&place, &config)?;
    let Some(adapter) = &config.adapter else { bail!("`{}` is no adapter", dir.display()) };
    let AdapterSpec { rank, alpha, rslora, .. } = adapter.spec;
    let trained = config.parameters() - config.base().parameters();
    say!(
        "{}: an adapter (LoRA) of rank {rank} on {} layers, {:.2} million parameters",
        dir.display(),
        adapter.layers(),
        trained as f64 / 1e6
    )?;
    say!(
        "  on {}; alpha {alpha}{}",
        adapter.targets().join(", "),
        if rslora { ", scaled by its root" } else { "" }
    )?;
    let replaced: Vec<&str> = adapter.replaced().collect();
    if !replaced.is_empty() {
        say!("  and values of its own for {}", replaced.join(", "))?;
    }
    say!(
        "  to use: `--model {} --adapter {}`, or `koan model merge`",
        place.model().display(),
        dir.display()
    )?;
    say!("  its base model:")?;
    info(place.model())
}

/// The attention of a model, in words.
fn attention(config: &Config) -> String {
    let Config { num_attention_heads: heads, head_dim, num_key_value_heads: keys, latent, .. } = config;
    match latent {
        None => format!("{heads} heads of {head_dim} sharing {keys} keys"),
        Some(latent) => {
            let queries = latent.q_lora_rank.map_or_else(String::new, |rank| format!(", of queries {rank}"));
            let (keys, values) = (latent.qk_head_dim(), latent.v_head_dim);
            let rank = latent.kv_lora_rank;
            format!("{heads} heads of {keys} and {values} from a latent of {rank} + {head_dim}{queries}")
        }
    }
}

/// The experts of a model's layers, in words.
fn experts_of(experts: &ExpertsConfig, layers: usize) -> String {
    let ExpertsConfig {
        routed, shared, per_token, intermediate_size, groups, groups_kept, first_dense, ..
    } = *experts;
    let groups = match groups {
        1 => String::new(),
        _ => format!(" of {groups_kept} of {groups} groups"),
    };
    let of_layers = layers.saturating_sub(first_dense);
    format!(
        "{of_layers} layers with {routed} experts of {intermediate_size}, a token chooses {per_token}{groups}; {shared} shared"
    )
}

fn info(dir: &Path) -> anyhow::Result<()> {
    if dir.join("adapter_config.json").exists() && !dir.join("config.json").exists() {
        return adapter_info(dir);
    }
    let config = Config::load(dir)?;
    Weights::open(dir, &config)?;
    if dir.join("tokenizer.json").exists() {
        Tokenizer::load_for(dir, config.vocab_size)?;
    }
    let parameters = config.parameters();
    let gib = |elements: usize| 4.0 * elements as f64 / (1u64 << 30) as f64;
    // A tied embedding is there twice: for the product of the head, and to look rows up.
    let head = config.vocab_size * config.hidden_size;
    let lookup = if config.tie_word_embeddings { head } else { 0 };
    let tied = if config.tie_word_embeddings { "the embedding" } else { "its own" };
    let active = match config.experts {
        Some(_) => format!(", of which a token meets {:.1} million", config.active_parameters() as f64 / 1e6),
        None => String::new(),
    };
    say!(
        "{}: {}, {:.1} million parameters{active}",
        dir.display(),
        config.family.name(),
        parameters as f64 / 1e6
    )?;
    say!(
        "  {} layers, hidden {}, {}, mlp {}, vocabulary {}, output head {tied}",
        config.num_hidden_layers,
        config.hidden_size,
        attention(&config),
        config.intermediate_size,
        config.vocab_size
    )?;
    if let Some(experts) = &config.experts {
        say!("  {}", experts_of(experts, config.num_hidden_layers))?;
    }
    match config.multi_token_layers {
        0 => {}
        1 => say!("  a module that predicts the token after the next")?,
        n => say!("  {n} modules that predict further tokens")?,
    }
    say!("  up to {} tokens, ended by {:?}", config.longest_sequence(), config.eos_token_ids)?;
    if config.rope_scaling != RopeScaling::None {
        say!("  positions: {:?}", config.rope_scaling)?;
    }
    say!("  licence: {}", license(dir, &config).as_deref().unwrap_or("not stated"))?;
    say!(
        "  to generate: {:.2} GiB, and {:.3} MiB ({} bytes) per token of running sequences",
        gib(parameters + lookup),
        1024.0 * gib(config.cache_elements_per_row()),
        4 * config.cache_elements_per_row()
    )?;
    if config.latent.is_some() {
        let latent = config.clone().caching(CacheForm::Latent, dir)?.cache_elements_per_row();
        say!("    with --cache latent {:.3} MiB ({} bytes) per token", 1024.0 * gib(latent), 4 * latent)?;
    }
    say!(
        "  to train: {:.2} GiB (weights, gradient, AdamW), and {:.3} MiB per token of a pass",
        gib(4 * parameters + head),
        1024.0 * gib(Purpose::Training.elements_per_row(&config))
    )?;
    Ok(())
}
