//! `koan serve`

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use koan_backend::Backend;
use koan_infer::{Codec, PromptStyle, Together};
use koan_model::checkpoint::Place;
use koan_serve::{Named, Settings, listen};

use crate::{
    cache::CacheArg,
    device::{Device, Job, Running},
    drafts::DraftsArg,
    generate::memory_bytes,
    interrupt::stop_on_signal,
    numbers::count,
    precision::InferencePrecisionArg,
};

/// The longest prompt with its completion by default, in tokens.
const CONTEXT: usize = 8192;
/// Longest file of a key, bytes.
const MAX_KEY_BYTES: u64 = 4096;

/// Serve models by OpenAI's API, with a chat page
///
/// Any client of that API can ask: `/v1/chat/completions` and `/v1/completions`, streamed or whole, `/v1/models`. The page at `/` holds
/// conversations in the browser. Requests are sampled together, and what each is answered depends on it alone: same seed, same answer,
/// whatever else is served. Adapters of one base model share its weights. Ctrl-C or SIGTERM ends it when the answers that were begun are
/// whole.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan serve --model models/smollm2
  koan serve --model models/smollm2 --adapter tuned=runs/lora/model    # side by side, over one base
  koan serve --model before=models/base --model after=runs/first/model
  koan serve --model models/smollm2 --host 0.0.0.0 --api-key-file key  # for other machines, which need the key
  curl http://127.0.0.1:8000/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}'

docs/guide/serve.md says what is supported, and how other programs are pointed at it.")]
pub(crate) struct Serve {
    /// A model, a Hugging Face directory; its name is the directory's unless one is given. Repeatable: the first is asked where a request
    /// names none
    #[arg(long, value_name = "[NAME=]DIR", required = true)]
    model: Vec<String>,
    /// An adapter (LoRA) on the first model, under a name of its own. Repeatable
    #[arg(long, value_name = "NAME=DIR")]
    adapter: Vec<String>,
    /// Where to listen; all but this machine's own address lets other machines in, so give a key too
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// At which port; 0: any that is free
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// A file with the key that requests must have: `Authorization: Bearer KEY`
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A system message before conversations that have none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Tokens of a prompt with its completion, at most; default: as many as the models reach, up to 8192
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    context: Option<usize>,
    /// Choices that are sampled at once, of each model
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = count::<usize>)]
    sequences: usize,
    /// Requests that may wait; more are refused with status 429
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = count::<usize>)]
    queue: usize,
    /// Seconds that a request may take
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = count::<u64>)]
    timeout: u64,
    /// Memory for keys, values and passes; default: most of what is free
    #[arg(long, value_name = "GIB")]
    memory: Option<f64>,
    /// Log requests and answers, conversations included, on standard error; nothing of them is logged otherwise
    #[arg(long)]
    log_requests: bool,
    #[command(flatten)]
    precision: InferencePrecisionArg,
    #[command(flatten)]
    cache: CacheArg,
    #[command(flatten)]
    drafts: DraftsArg,
    #[command(flatten)]
    device: Device,
}

impl Serve {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }

    /// The models and adapters, each under its name.
    fn places(&self) -> anyhow::Result<Vec<(String, Place)>> {
        let mut places = Vec::new();
        let mut base = None;
        for given in &self.model {
            let (name, dir) = named(given);
            let name = name.map_or_else(|| name_of(dir), str::to_owned);
            let place = self.computed(Place::find(dir, None)?);
            base.get_or_insert(dir);
            places.push((name, place));
        }
        for given in &self.adapter {
            let (Some(name), dir) = named(given) else {
                bail!("--adapter {given}: give it a name by which it is asked: --adapter NAME={given}");
            };
            let base = base.context("an adapter needs a model")?;
            places.push((name.to_owned(), self.computed(Place::find(base, Some(dir))?)));
        }
        Ok(places)
    }

    /// The model at `place` in the precision, and with the cache, that were asked for.
    fn computed(&self, place: Place) -> Place {
        place.in_precision(self.precision.get()).caching(self.cache.get())
    }

    fn key(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.api_key_file else { return Ok(None) };
        let size = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
        ensure!(size <= MAX_KEY_BYTES, "{} is too large for a key", path.display());
        let key = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let key = key.trim();
        ensure!(!key.is_empty(), "{} is empty; a key is one line of text", path.display());
        ensure!(
            key.bytes().all(|b| b.is_ascii_graphic()),
            "{}: a key is one line of ASCII without spaces",
            path.display()
        );
        Ok(Some(key.to_owned()))
    }
}

/// `NAME=DIR`, or a directory alone: one that is there, whatever its name.
fn named(given: &str) -> (Option<&str>, &Path) {
    match given.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !Path::new(given).exists() => (Some(name), Path::new(dir)),
        _ => (None, Path::new(given)),
    }
}

/// The name of a model's directory; of a run's `model` that of the run.
fn name_of(dir: &Path) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name =
        |dir: &Path| dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match (name(&dir), dir.parent().map(name)) {
        (own, Some(run)) if own == "model" && !run.is_empty() => run,
        (own, _) => own,
    }
}

impl Job for Serve {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let key = self.key()?;
        let memory = memory_bytes(self.memory)?;
        let listener = listen(&self.host, self.port)?;
        let mut models = Vec::new();
        for (name, place) in self.places()? {
            let codec = Codec::open_at(&place, PromptStyle { raw: false, system: self.system.clone() })?;
            codec.tokenizer().context("a model is served by its text")?;
            models.push(Named { name, codec, system: self.system.clone() });
        }
        let reached = models.iter().map(|named| named.codec.config().longest_sequence()).min().unwrap_or(0);
        let context = self.context.unwrap_or(reached.min(CONTEXT));
        let together = Together { context, sequences: self.sequences, drafts: self.drafts.drafts(), memory };
        if listener.is_public() && key.is_none() {
            note!("whoever reaches this machine can ask: --api-key-file gives a key that they need");
        }
        let names: Vec<String> = models.iter().map(|named| named.name.clone()).collect();
        let stop = stop_on_signal("ending when the answers that were begun are whole");
        let log = self.log_requests.then(|| Box::new(|line: &str| note!("{line}")) as koan_serve::Log);
        let settings = Settings {
            together,
            key,
            queue: self.queue,
            timeout: Duration::from_secs(self.timeout),
            drain: Duration::from_secs(self.timeout),
            device: running.to_string(),
            log,
        };
        let sequences = self.sequences;
        koan_serve::serve(b, listener, models, settings, &stop, |url| {
            note!(
                "serves {} on {running}: {sequences} choices at once, of up to {context} tokens",
                names.join(", ")
            );
            note!("API: {url}v1; chat page: {url}; Ctrl-C ends it");
        })?;
        Ok(())
    }
}
