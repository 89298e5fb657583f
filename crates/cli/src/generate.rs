//! `koan generate`

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, BufReader, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Context, bail, ensure};
use koan_backend::Backend;
use koan_data::{
    DataFiles,
    corpus::MAX_CORPUS_BYTES,
    rows::{self, Rows},
};
use koan_eval::Journal;
use koan_files::{
    Limited,
    jsonl::{Lines, MAX_LINE_BYTES},
};
use koan_generate::{Limits, Sampling};
use koan_infer::{Codec, Completed, Engine, PromptStyle, Prompts, Work};
use koan_text::RowTemplate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    adapter::AdapterArg,
    device::{Device, Job, Running},
    drafts::{self, DraftsArg},
    eval::{Hashes, part_of},
    interrupt::stop_on_signal,
    numbers::{MAX_ROWS, count},
    output::Output,
    progress::Progress,
};

/// Longest prompt template, bytes.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

/// Sample completions of prompts, with token ids and log-probabilities
///
/// Prompts are given by `--prompt`, or come from JSON Lines with `prompt` (a question), `messages` (a conversation) or
/// `prompt_ids` (tokens). Writes each line again with `prompt_ids` and `completions`: [{`text`, `token_ids`, `logprobs`, `full_logprobs`, `finish_reason`}].
/// `logprobs` are under the distribution that tokens were sampled from, `full_logprobs` under the whole one, which
/// `koan score` computes to the same bits; they are equal where nothing is cut off.
///
/// With `--prompt-template`, rows may have any fields: the template makes the prompt of them, which the output adds as
/// `rendered_prompt`. All other fields stay, so that `koan data convert` makes demonstrations of what comes out.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan generate --model models/smollm2 --prompt 'What is the capital of Japan?' --temperature 0
  koan generate --model models/smollm2 --input questions.jsonl --out answers.jsonl --temperature 0
  koan generate --model models/smollm2 --adapter runs/lora/model --prompt 'What is 7 times 8?'
  cat questions.txt | koan generate --model models/smollm2 --input - --lines
  koan generate --model models/smollm2 --input answers.jsonl --prompt-template 'Is this right? {{ completions[0].text }}'
  koan generate --model models/smollm2 --input questions.jsonl --n 16 --temperature 0.6 --top-p 0.95 --stop '\\n\\n'")]
#[expect(clippy::struct_excessive_bools, reason = "options of a command, each by itself")]
pub(crate) struct Generate {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    adapter: AdapterArg,
    /// A prompt. Repeatable
    #[arg(long, value_name = "TEXT", required_unless_present = "input", conflicts_with = "input")]
    prompt: Vec<String>,
    /// The prompts: files, or patterns such as 'a*.jsonl'; `-`: standard input
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// The input is plain text: each line that is not blank is a prompt
    #[arg(long, requires = "input", conflicts_with = "prompt")]
    lines: bool,
    /// Make each prompt of its row's fields: Jinja such as 'Improve this: {{ draft }}', or a file of it
    #[arg(long, value_name = "FILE|TEXT")]
    prompt_template: Option<String>,
    /// Where completions go, whole or not at all; default: standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Completions per prompt
    #[arg(long, default_value_t = 1, value_parser = count::<usize>)]
    n: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// A completion is cut at this many tokens
    #[arg(long, default_value_t = 256, value_parser = count::<usize>)]
    max_new_tokens: usize,
    /// A text that ends a completion (`\n`, `\t` are read as such); its tokens are kept, its text is not. Repeatable
    #[arg(long, value_name = "TEXT", value_parser = unescaped)]
    stop: Vec<String>,
    /// Keys the random numbers: same seed, same completions
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Feed prompts as they stand, without the chat template
    #[arg(long)]
    raw: bool,
    /// A system message before every prompt that has none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Sequences at once, at most
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = count::<usize>)]
    sequences: usize,
    /// Memory for keys, values and passes; default: most of what is free. Sequences for which there is no room wait
    #[arg(long, value_name = "GIB")]
    memory: Option<f64>,
    #[command(flatten)]
    drafts: DraftsArg,
    /// Keep completions in FILE.part as they come: stopped or killed, the same command goes on from there, and ends with the same bytes
    #[arg(long, requires = "out", conflicts_with = "prompt")]
    resume: bool,
    /// Say in each row, in its `origin`, where its completions come from: the model with the SHA-256 of its weights, the seed, the prompt's place
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    device: Device,
}

/// A row of the output as it is written, in the file that is gone on from.
#[derive(Deserialize, Serialize)]
struct Written {
    row: String,
}

/// How tokens are sampled.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SamplingArgs {
    /// Logits are divided by it; 0 takes the likeliest token
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Sample from the K likeliest tokens; 0: all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Sample from the likeliest tokens that have this share of the probability that top-k left; 1: all
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f32,
    /// Leave out tokens with less than this share of the likeliest one's probability; 0: none
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f32,
}

impl SamplingArgs {
    /// As they say, if that makes sense, with everything else as it is by default.
    pub(crate) fn checked(&self) -> anyhow::Result<Sampling> {
        let &Self { temperature, top_k, top_p, min_p } = self;
        ensure!(temperature >= 0.0 && temperature.is_finite(), "--temperature must be 0 or more");
        ensure!(top_p > 0.0 && top_p <= 1.0, "--top-p must be above 0 and at most 1");
        ensure!((0.0..=1.0).contains(&min_p), "--min-p must be between 0 and 1");
        Ok(Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() })
    }
}

/// The template that `given` is: the name of a file, or its text.
fn template(given: &str) -> anyhow::Result<RowTemplate> {
    let path = Path::new(given);
    let text = if path.is_file() {
        let bytes = koan_files::read_bounded(path, MAX_TEMPLATE_BYTES)
            .with_context(|| format!("--prompt-template {given}"))?
            .with_context(|| format!("--prompt-template {given}: more than {MAX_TEMPLATE_BYTES} bytes"))?;
        String::from_utf8(bytes).with_context(|| format!("--prompt-template {given}: not UTF-8"))?
    } else {
        ensure!(
            given.contains("{{") || given.contains("{%"),
            "--prompt-template: `{given}` is no file, and as a text it names no field, as in '{{{{ prompt }}}}'"
        );
        given.to_owned()
    };
    RowTemplate::new(&text).context("--prompt-template")
}

/// Refuses more completions than one command samples.
pub(crate) fn check_completions(prompts: usize, n: usize) -> anyhow::Result<()> {
    let all = prompts.saturating_mul(n);
    ensure!(
        all as u64 <= MAX_ROWS,
        "{n} completions of each of {prompts} prompts are {all}; one command samples {MAX_ROWS} at most: lower --n, or split the file"
    );
    Ok(())
}

/// `--memory` in bytes.
pub(crate) fn memory_bytes(gib: Option<f64>) -> anyhow::Result<Option<usize>> {
    const MOST: f64 = 1_048_576.0; // a pebibyte
    ensure!(gib.is_none_or(|gib| gib > 0.0 && gib <= MOST), "--memory must be above 0 and at most {MOST}");
    Ok(gib.map(|gib| (gib * f64::from(1 << 30)) as usize))
}

/// Reads `\n`, `\t`, `\r` and `\\` as a shell can't easily write them.
fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match (c, c == '\\') {
            (_, false) => c,
            _ => match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('\\') => '\\',
                _ => return Err(r"after a backslash comes n, t, r or another backslash".to_owned()),
            },
        });
    }
    if out.is_empty() { Err("an empty text would end every completion".to_owned()) } else { Ok(out) }
}

impl Generate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }

    fn prompts(&self, codec: &Codec) -> anyhow::Result<Prompts> {
        const STDIN: &str = "standard input";
        let template = self.prompt_template.as_deref().map(template).transpose()?;
        let template = template.as_ref();
        if self.input.is_empty() {
            return Ok(Prompts::of_texts(self.prompt.iter().cloned(), "--prompt", template, codec)?);
        }
        let files = DataFiles::from(self.input.clone());
        let is_stdin = self.input == [PathBuf::from("-")];
        if !self.lines {
            let stdin = || {
                Rows::of_text(
                    STDIN.as_ref(),
                    Box::new(BufReader::new(Limited::new(io::stdin()))),
                    MAX_LINE_BYTES,
                )
            };
            return Ok(if is_stdin {
                Prompts::read_rows(stdin()?, template, codec)?
            } else {
                Prompts::read(&files, template, codec)?
            });
        }
        let name = if is_stdin { STDIN.to_owned() } else { files.to_string() };
        let mut texts = Vec::new();
        let mut add = |input: Box<dyn BufRead>, name: &str| {
            for line in Lines::new(input) {
                let (number, line) = line.with_context(|| format!("cannot read {name}"))?;
                let line = String::from_utf8(line.with_context(|| format!("{name}:{number}"))?);
                texts.push(line.with_context(|| format!("{name}:{number}: not UTF-8"))?.trim().to_owned());
            }
            anyhow::Ok(())
        };
        if is_stdin {
            add(Box::new(BufReader::new(Limited::new(io::stdin()))), STDIN)?;
        } else {
            for path in files.paths()? {
                let text = rows::read_text(&path, MAX_CORPUS_BYTES)?;
                add(Box::new(io::Cursor::new(text)), &path.display().to_string())?;
            }
        }
        ensure!(!texts.is_empty(), "{name} has no lines");
        Ok(Prompts::of_texts(texts, &name, template, codec)?)
    }
}

impl Job for Generate {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let memory = memory_bytes(self.memory)?;
        let style = PromptStyle { raw: self.raw, system: self.system.clone() };
        let place = self.adapter.on(&self.model)?;
        let codec = Codec::open_at(&place, style)?;
        if !self.stop.is_empty() {
            codec.tokenizer().context("--stop")?;
        }
        let prompts = self.prompts(&codec)?;
        let sampling = Sampling {
            max_new_tokens: self.max_new_tokens,
            stop_ids: codec.stop_ids(),
            seed: self.seed,
            ..self.sampling.checked()?
        };
        let (lines, longest) = (prompts.len(), prompts.longest());
        check_completions(lines, self.n)?;
        let limits = Limits {
            sequences: self.sequences.min(lines * self.n),
            prompt_tokens: longest,
            new_tokens: self.max_new_tokens,
            drafts: self.drafts.drafts(),
        };
        let positions = longest.saturating_add(self.max_new_tokens);
        let model = if self.resume || self.origin { Hashes::default().of(&place)? } else { BTreeMap::new() };
        // Rows as they are written, of the prompts whose completions are there.
        let mut finished: Vec<Option<String>> = vec![None; lines];
        let mut journal = None;
        if let (true, Some(out)) = (self.resume, &self.out) {
            let part = part_of(out)?;
            let settings = self.settings(&sampling, &prompts, &model, running);
            let (opened, held) = Journal::open::<Written>(&part, &settings, [lines, 1])?;
            if !held.is_empty() {
                note!("goes on from {}, which has {} of {lines} prompts", part.display(), held.len());
            }
            for ((place, _), Written { row }) in held {
                finished[place] = Some(row);
            }
            journal = Some(opened);
        }
        let have: BTreeSet<usize> = (0..lines).filter(|&place| finished[place].is_some()).collect();
        let mut engine = Engine::load(b, codec, positions, limits, memory).context("cannot generate")?;
        let plan = engine.generator.plan();
        note!(
            "{} completions, {} at once, room for {} tokens in {:.2} GiB",
            lines * self.n,
            plan.limits.sequences,
            plan.cache_tokens(),
            engine.bytes() as f64 / f64::from(1 << 30)
        );
        let mut out = Output::open(self.out.as_deref())?;
        let mut progress = Progress::new("prompts", lines);
        let stop = journal.as_ref().map(|_| stop_on_signal("giving up what is not whole"));
        let is_stopped = || stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        // Lines are written in the order of the input, as soon as those before them are there.
        let (mut done, mut next, mut tokens) = (have.len(), 0, 0);
        let start = std::time::Instant::now();
        let work = Work { prompts, samples: self.n, sampling: &sampling, stops: &self.stop, done: &have };
        let mut wrote = write_ready(&mut out, &mut finished, &mut next);
        let run = engine.complete(work, |i, mut line| {
            tokens += line.completions.iter().map(|c| c.token_ids.len()).sum::<usize>();
            if self.origin {
                self.add_origin(&mut line, i, &model);
            }
            wrote = keep(journal.as_mut(), i, &line).and_then(|row| {
                finished[i] = Some(row);
                write_ready(&mut out, &mut finished, &mut next)
            });
            done += 1;
            progress.set(done, "");
            if wrote.is_ok() && !is_stopped() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        progress.finish();
        let counters = run.map_err(anyhow::Error::from).and_then(|run| wrote.map(|()| run))?;
        if done < lines {
            let part = self.out.as_deref().map(part_of).transpose()?.unwrap_or_default();
            bail!("stopped; the same command goes on from {}", part.display());
        }
        let seconds = start.elapsed().as_secs_f64();
        let (speed, drafts) = (tokens as f64 / seconds, drafts::in_words(counters));
        note!("{done} prompts, {tokens} tokens, {seconds:.1} s, {speed:.0} tokens/s{drafts}");
        if counters.preemptions > 0 {
            note!("{} times a sequence waited for room; more --memory avoids that", counters.preemptions);
        }
        out.finish()?;
        Ok(journal.map_or(Ok(()), Journal::remove)?)
    }
}

/// The row of `line`, prompt number `place`, as it is written; kept in the journal, if there is one.
fn keep(journal: Option<&mut Journal>, place: usize, line: &Completed) -> anyhow::Result<String> {
    let row = Written { row: serde_json::to_string(line)? };
    if let Some(journal) = journal {
        journal.add(place, 0, &row)?;
    }
    Ok(row.row)
}

/// Writes the rows from number `next` on that are there.
fn write_ready(out: &mut Output, finished: &mut [Option<String>], next: &mut usize) -> anyhow::Result<()> {
    while let Some(row) = finished.get_mut(*next).and_then(Option::take) {
        writeln!(out, "{row}")?;
        *next += 1;
    }
    Ok(())
}

impl Generate {
    /// Everything that completions depend on.
    fn settings(
        &self,
        sampling: &Sampling,
        prompts: &Prompts,
        model: &BTreeMap<String, String>,
        running: Running,
    ) -> Map<String, Value> {
        let mut all = json!({
            "koan": env!("CARGO_PKG_VERSION"), "device": running.device, "isa": running.isa,
            "model_sha256": model, "prompts_sha256": prompts.sha256(), "n": self.n, "seed": sampling.seed,
            "max_new_tokens": sampling.max_new_tokens, "stop_ids": sampling.stop_ids, "stop": self.stop,
            "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p,
            "min_p": sampling.min_p, "origin": self.origin,
        });
        if let Some(precision) = self.adapter.precision() {
            all["precision"] = precision.into();
        }
        if let Some(cache) = self.adapter.cache() {
            all["cache"] = cache.into();
        }
        // As they read back from a file: 32-bit floats as the shortest decimals.
        serde_json::from_str(&all.to_string()).unwrap_or_default()
    }

    /// Says where the completions of `line`, prompt number `place` from 0, come from. What an earlier step said of the row stays within.
    fn add_origin(&self, line: &mut Completed, place: usize, model: &BTreeMap<String, String>) {
        let mut origin = json!({
            "model": self.model, "model_sha256": model.get("weights"), "problem": line.line.other.get("id"),
            "seed": self.seed, "prompt": place + 1,
        });
        if let Some(adapter) = model.get("adapter") {
            origin["adapter_sha256"] = json!(adapter);
        }
        if let Some(before) = line.line.other.get("origin") {
            origin["of"] = before.clone();
        }
        line.line.other.insert("origin".to_owned(), origin);
    }
}
