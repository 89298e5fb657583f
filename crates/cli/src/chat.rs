//! `koan chat`

mod thinking;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, ensure};
use koan_backend::Backend;
use koan_data::Message;
use koan_eval::PromptStyle;
use koan_generate::{Generator, Limits, Request, Sampling};
use koan_model::{Config, Model, checkpoint};
use koan_text::{TextStream, Tokenizer};
use serde_json::json;
use thinking::{Shade, Thinking};

use crate::{
    device::{Device, Job, Running},
    generate::{DrawArgs, memory_plan, stop_ids},
    output::{Output, Stdout},
};

const HELP: &str = "/reset       begins a new conversation
/save FILE   writes the conversation as a line of JSON, which koan generate reads
/help        says this
/quit        ends; so does the end of input
Ctrl-C       stops a reply";

/// Talk to a model: replies come as they are drawn, thinking dimmed
///
/// Reads lines from standard input. The conversation's keys and values stay in memory, so that a turn costs its own tokens.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan chat --model models/smollm2 --temperature 0.6 --top-p 0.95
  echo 'What is 7 times 8?' | koan chat --model models/smollm2 --temperature 0

In a conversation:
  /reset, /save FILE, /help, /quit; Ctrl-C stops a reply")]
pub(crate) struct Chat {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A system message before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    draw: DrawArgs,
    /// A reply is cut at this many tokens
    #[arg(long, default_value_t = 1024)]
    max_new_tokens: usize,
    /// Tokens of a whole conversation, at most; default: as many as the model reaches, up to 8192
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Keys the random numbers: same seed, same replies
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: Device,
}

/// Tokens of a conversation unless told otherwise, at most.
const CONTEXT: usize = 8192;

impl Chat {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }
}

impl Job for Chat {
    fn run<B: Backend>(self, b: &B, _: Running) -> anyhow::Result<()> {
        ensure!(self.max_new_tokens > 0, "--max-new-tokens must be at least 1");
        ensure!(self.context != Some(0), "--context must be at least 1");
        let sampling = self.draw.sampling()?;
        let tokenizer = Tokenizer::load_for(&self.model, Config::load(&self.model)?.vocab_size)?;
        let model = checkpoint::load_for_inference(b, &self.model, self.context)?;
        let context = self.context.unwrap_or(model.positions().min(CONTEXT)).min(model.positions());
        let max_new_tokens = self.max_new_tokens.min(context);
        let limits = Limits { sequences: 1, prompt_tokens: context, new_tokens: max_new_tokens };
        let plan = memory_plan(b, limits, model.config(), None).context("try a shorter --context")?;
        let mut generator = Generator::planned(b, model.config(), plan)?;
        generator.keep_keys(true);
        let sampling = Sampling {
            max_new_tokens,
            stop_ids: stop_ids(model.config(), Some(&tokenizer)),
            seed: self.seed,
            ..sampling
        };
        let replying = Arc::new(AtomicBool::new(false));
        let handler = Arc::clone(&replying);
        ctrlc::set_handler(move || {
            if !handler.swap(false, Ordering::Relaxed) {
                let _ = write!(io::stderr(), "\n(/quit or Ctrl-D ends)\n> ");
            }
        })
        .context("cannot listen for Ctrl-C")?;
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        if terminal {
            say!("{}; /help says what else there is", self.model.display())?;
        }
        let conversation = Conversation {
            b,
            model,
            tokenizer,
            generator,
            style: PromptStyle { raw: false, system: self.system },
            sampling,
            context,
            replying,
            messages: Vec::new(),
            turns: 0,
        };
        conversation.hold(io::stdin().lock(), terminal)
    }
}

struct Conversation<'a, B: Backend> {
    b: &'a B,
    model: Model<B>,
    tokenizer: Tokenizer,
    generator: Generator<B>,
    style: PromptStyle,
    sampling: Sampling,
    context: usize,
    /// Whether a reply is being drawn; Ctrl-C says that it is not.
    replying: Arc<AtomicBool>,
    messages: Vec<Message>,
    /// Replies drawn: the number that keys each reply's random numbers.
    turns: u64,
}

impl<B: Backend> Conversation<'_, B> {
    /// Answers line after line. Errors of a turn are told, and the conversation goes on; without a terminal they end it.
    fn hold(mut self, mut input: impl BufRead, terminal: bool) -> anyhow::Result<()> {
        loop {
            if terminal {
                write!(Stdout, "> ").and_then(|()| Stdout.flush())?;
            }
            let mut line = String::new();
            if input.read_line(&mut line).context("cannot read standard input")? == 0 {
                return Ok(());
            }
            let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            let done = match word {
                "" => Ok(()),
                "/quit" => return Ok(()),
                "/help" => Ok(say!("{HELP}")?),
                "/reset" => {
                    self.messages.clear();
                    Ok(())
                }
                "/save" => self.save(Path::new(rest.trim())),
                _ if word.starts_with('/') => {
                    Err(anyhow::anyhow!("there is no `{word}`; /help says what there is"))
                }
                _ => self.turn(line.trim(), terminal),
            };
            match done {
                Err(e) if terminal => note!("{e:#}"),
                done => done?,
            }
        }
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        ensure!(!path.as_os_str().is_empty(), "/save needs the name of a file");
        let mut out = Output::open(Some(path))?;
        out.line(&json!({"messages": self.messages}))?;
        out.finish()
    }

    /// Draws the reply to `said`, and shows it as it comes.
    fn turn(&mut self, said: &str, terminal: bool) -> anyhow::Result<()> {
        let asked = self.messages.len();
        self.messages.push(Message::user(said));
        match self.reply(terminal) {
            Ok(text) => self.messages.push(Message { role: "assistant".to_owned(), ..Message::user(text) }),
            Err(e) => {
                self.messages.truncate(asked);
                return Err(e);
            }
        }
        Ok(())
    }

    fn reply(&mut self, terminal: bool) -> anyhow::Result<String> {
        let ids = self.style.encode(&self.tokenizer, &self.messages)?;
        let room = (self.context + 1).saturating_sub(ids.len());
        ensure!(!ids.is_empty(), "the prompt has no tokens");
        ensure!(
            room > 0,
            "the conversation has {} tokens, and {} is the most; /reset begins a new one, --context may allow more",
            ids.len(),
            self.context
        );
        let sampling =
            Sampling { max_new_tokens: self.sampling.max_new_tokens.min(room), ..self.sampling.clone() };
        // Some templates open the thinking themselves.
        let opening = self.tokenizer.decode(&ids[ids.len().saturating_sub(16)..], false)?;
        let mut reply = Reply {
            stream: TextStream::new(&self.tokenizer, true),
            thinking: Thinking::new(opening.trim_end().ends_with(thinking::OPEN)),
            dim: terminal,
            text: String::new(),
        };
        let request = Request { prompt: ids.into(), sampling, problem: self.turns, sample: 0 };
        self.generator.submit(request)?;
        self.turns += 1;
        self.replying.store(true, Ordering::Relaxed);
        let mut shown = Ok(());
        while self.generator.is_busy() && shown.is_ok() && self.replying.load(Ordering::Relaxed) {
            shown = match self.generator.step(self.b, &self.model) {
                Ok(step) => step.tokens.into_iter().try_for_each(|(_, token)| reply.push(token)),
                Err(e) => Err(e.into()),
            };
        }
        self.replying.store(false, Ordering::Relaxed);
        self.generator.cancel_all();
        shown?;
        reply.finish()
    }
}

/// A reply being shown.
struct Reply<'a> {
    stream: TextStream<'a>,
    thinking: Thinking,
    dim: bool,
    text: String,
}

impl Reply<'_> {
    /// Shows what is certain with this token.
    fn push(&mut self, token: u32) -> anyhow::Result<()> {
        let piece = self.stream.push(token)?;
        self.text += &piece;
        let shaded = self.thinking.push(&piece);
        print(&shaded, self.dim)
    }

    fn finish(mut self) -> anyhow::Result<String> {
        let rest = self.stream.finish()?;
        self.text += &rest;
        let mut shaded = self.thinking.push(&rest);
        shaded.extend(self.thinking.finish());
        shaded.push((Shade::Plain, "\n".to_owned()));
        print(&shaded, self.dim)?;
        Ok(self.text)
    }
}

fn print(pieces: &[(Shade, String)], dim: bool) -> anyhow::Result<()> {
    let mut out = Stdout;
    for (shade, text) in pieces {
        match shade {
            Shade::Dim if dim => write!(out, "\x1b[2m{text}\x1b[0m")?,
            _ => write!(out, "{text}")?,
        }
    }
    Ok(out.flush()?)
}
