//! `koan chat`

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
use koan_generate::{Limits, Sampling};
use koan_infer::{Codec, Conversation, Engine, InferError, Piece, PromptStyle};
use serde_json::json;

use crate::{
    device::{Device, Job, Running},
    generate::SamplingArgs,
    output::{Output, Stdout},
};

const HELP: &str = "/reset       begins a new conversation
/save FILE   writes the conversation as a line of JSON, which koan generate reads
/help        says this
/quit        ends; so does the end of input
Ctrl-C       stops a reply";

/// Talk to a model: replies come token by token, thinking dimmed
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
    sampling: SamplingArgs,
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

/// The longest conversation by default, in tokens.
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
        let codec = Codec::open(&self.model, PromptStyle { raw: false, system: self.system })?;
        codec.tokenizer()?;
        let context = self.context.unwrap_or(codec.config().longest_sequence().min(CONTEXT));
        let max_new_tokens = self.max_new_tokens.min(context);
        let sampling = Sampling {
            max_new_tokens,
            stop_ids: codec.stop_ids(),
            seed: self.seed,
            ..self.sampling.checked()?
        };
        let limits = Limits { sequences: 1, prompt_tokens: context, new_tokens: max_new_tokens };
        let engine = Engine::load(b, codec, context, limits, None).map_err(with_hint)?;
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
        let conversation = Conversation::new(engine, sampling, context);
        Chatting { conversation, replying, terminal }.hold(io::stdin().lock())
    }
}

/// The error, with what can be done about it here.
fn with_hint(error: InferError) -> anyhow::Error {
    let hint = match error {
        InferError::NoRoom(_) | InferError::OutOfMemory(_) => "try a shorter --context",
        InferError::ConversationLength { .. } => "/reset begins a new conversation, --context may allow more",
        error => return error.into(),
    };
    anyhow::Error::new(error).context(hint)
}

/// A conversation with whoever writes to standard input.
struct Chatting<'b, B: Backend> {
    conversation: Conversation<'b, B>,
    /// Whether a reply is being sampled; Ctrl-C says that it is not.
    replying: Arc<AtomicBool>,
    terminal: bool,
}

impl<B: Backend> Chatting<'_, B> {
    /// Answers line after line. A turn that fails is reported, and the conversation goes on; without a terminal it ends.
    fn hold(mut self, mut input: impl BufRead) -> anyhow::Result<()> {
        loop {
            if self.terminal {
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
                    self.conversation.reset();
                    Ok(())
                }
                "/save" => self.save(Path::new(rest.trim())),
                _ if word.starts_with('/') => {
                    Err(anyhow::anyhow!("there is no `{word}`; /help says what there is"))
                }
                _ => self.turn(line.trim()),
            };
            match done {
                Err(e) if self.terminal => note!("{e:#}"),
                done => done?,
            }
        }
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        ensure!(!path.as_os_str().is_empty(), "/save needs the name of a file");
        let mut out = Output::open(Some(path))?;
        out.line(&json!({"messages": self.conversation.messages()}))?;
        out.finish()
    }

    /// Samples the reply to `text`, and shows it as it comes.
    fn turn(&mut self, text: &str) -> anyhow::Result<()> {
        let mut reply = self.conversation.say(text).map_err(with_hint)?;
        self.replying.store(true, Ordering::Relaxed);
        while self.replying.load(Ordering::Relaxed)
            && let Some(pieces) = reply.step()?
        {
            show(&pieces, self.terminal)?;
        }
        self.replying.store(false, Ordering::Relaxed);
        show(&reply.finish()?, self.terminal)?;
        Ok(writeln!(Stdout).and_then(|()| Stdout.flush())?)
    }
}

/// Shows pieces of a reply; on a terminal, thinking is dimmed.
fn show(pieces: &[Piece], terminal: bool) -> anyhow::Result<()> {
    for Piece { thinking, text } in pieces {
        if *thinking && terminal {
            write!(Stdout, "\x1b[2m{text}\x1b[0m")?;
        } else {
            write!(Stdout, "{text}")?;
        }
    }
    Ok(Stdout.flush()?)
}
