//! `koan chat`

mod messages;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::ensure;
use koan_backend::Backend;
use koan_generate::{Limits, Sampling};
use koan_infer::{Codec, Conversation, Engine, InferError, Piece, PromptStyle};
use serde_json::json;

use self::messages::Messages;
use crate::{
    adapter::AdapterArg,
    device::{Device, Job, Running},
    drafts::DraftsArg,
    generate::SamplingArgs,
    interrupt::on_ctrl_c,
    numbers::count,
    output::{Output, Stdout},
};

const HELP: &str = "/reset       begins a new conversation
/save FILE   writes the conversation as a line of JSON, which koan generate reads
/help        says this
/quit        ends; so does Ctrl-D, or the end of input
Ctrl-C       stops a reply; what there is of it stays in the conversation
Up, Ctrl-R   recall and search what was typed before; a paste of several lines is one message";

/// Talk to a model: replies come token by token, thinking dimmed
///
/// On a terminal, messages are edited and recalled as in a shell, and a paste of several lines is one message; what was typed is kept
/// in ~/.local/state/koan/chat_history. From a pipe, each line is a message. The conversation's keys and values stay in memory,
/// so that a turn costs its own tokens.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan chat --model models/smollm2 --temperature 0.6 --top-p 0.95
  echo 'What is 7 times 8?' | koan chat --model models/smollm2 --temperature 0

In a conversation:
  /reset, /save FILE, /help, /quit; Ctrl-C stops a reply, Ctrl-D ends")]
pub(crate) struct Chat {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    adapter: AdapterArg,
    /// A system message before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// A reply is cut at this many tokens
    #[arg(long, default_value_t = 1024, value_parser = count::<usize>)]
    max_new_tokens: usize,
    /// Tokens of a whole conversation, at most; default: as many as the model reaches, up to 8192
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    context: Option<usize>,
    /// Keys the random numbers: same seed, same replies
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    drafts: DraftsArg,
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
        let style = PromptStyle { raw: false, system: self.system };
        let codec = Codec::open_at(&self.adapter.on(&self.model)?, style)?;
        codec.tokenizer()?;
        let context = self.context.unwrap_or(codec.config().longest_sequence().min(CONTEXT));
        let max_new_tokens = self.max_new_tokens.min(context);
        let sampling = Sampling {
            max_new_tokens,
            stop_ids: codec.stop_ids(),
            seed: self.seed,
            ..self.sampling.checked()?
        };
        let drafts = self.drafts.drafts();
        let limits = Limits { sequences: 1, prompt_tokens: context, new_tokens: max_new_tokens, drafts };
        let engine = Engine::load(b, codec, context, limits, None).map_err(with_hint)?;
        let replying = Arc::new(AtomicBool::new(false));
        let handler = Arc::clone(&replying);
        on_ctrl_c(move || {
            if !handler.swap(false, Ordering::Relaxed) {
                note!("\n(/quit or Ctrl-D ends)");
            }
        });
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        if terminal {
            say!("{}; /help says what else there is", self.model.display())?;
        }
        let messages = Messages::open(terminal)?;
        let conversation = Conversation::new(engine, sampling, context);
        Chatting { conversation, replying, terminal, max_new_tokens }.hold(messages)
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
    /// Tokens at which a reply is cut.
    max_new_tokens: usize,
}

impl<B: Backend> Chatting<'_, B> {
    /// Answers message after message. A turn that fails is reported, and the conversation goes on; without a terminal it ends.
    fn hold(mut self, mut messages: Messages) -> anyhow::Result<()> {
        while let Some(message) = messages.next()? {
            let message = message.trim();
            let is_command = message.starts_with('/') && !message.contains('\n');
            let (word, rest) = message.split_once(' ').unwrap_or((message, ""));
            let done = match word {
                "" => Ok(()),
                "/quit" => return Ok(()),
                "/help" => Ok(say!("{HELP}")?),
                "/reset" => {
                    self.conversation.reset();
                    Ok(())
                }
                "/save" => self.save(Path::new(rest.trim())),
                _ if is_command => Err(anyhow::anyhow!("there is no `{word}`; /help says what there is")),
                _ => self.turn(message),
            };
            match done {
                Err(e) if self.terminal => note!("{e:#}"),
                done => done?,
            }
        }
        Ok(())
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
        let stopped = !self.replying.swap(false, Ordering::Relaxed);
        let is_cut = reply.is_cut();
        let tokens = reply.tokens();
        show(&reply.finish()?, self.terminal)?;
        writeln!(Stdout).and_then(|()| Stdout.flush())?;
        if stopped {
            self.mark("[stopped]");
        } else if is_cut && tokens < self.max_new_tokens {
            self.mark("[cut: the conversation is as long as --context allows; /reset begins a new one]");
        } else if is_cut {
            self.mark(&format!("[cut at {tokens} tokens; --max-new-tokens allows more]"));
        }
        Ok(())
    }

    /// Says what is no part of a reply, on standard error.
    fn mark(&self, words: &str) {
        if self.terminal {
            note!("\x1b[2m{words}\x1b[0m");
        } else {
            note!("{words}");
        }
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
