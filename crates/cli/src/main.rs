//! Koan, the program: one file a verb. It parses words, opens files and devices, and shows progress; the work is done by
//! the libraries.
#![forbid(unsafe_code)]
// `say!` and `note!` outlive a reader who goes away; `println!` and `eprintln!` panic.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;

mod adapter;
mod bench;
mod cache;
mod chat;
mod children;
mod completions;
mod data;
mod demo;
mod device;
mod distill;
mod doctor;
mod drafts;
mod elsewhere;
mod eval;
mod generate;
mod interrupt;
mod label;
mod mine;
mod model;
mod numbers;
mod precision;
mod prefer;
mod progress;
mod ranks;
mod recipe;
mod reject;
mod rl;
mod score;
mod serve;
mod stage;
mod supervised;
mod verify;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::children::Children;

/// Reasoning models by reinforcement learning from answers that a program can check
#[derive(Parser)]
#[command(name = "koan", version = env!("KOAN_VERSION"), arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "To begin with:
  koan demo                                        see the whole path in minutes: nothing else is needed
  koan model pull OWNER/NAME --out models/NAME     fetch a model (or: koan model import FILE.gguf)
  koan generate --model models/NAME --prompt 'What is 7 times 8?'
  koan rl recipes/smollm2-arithmetic.toml --plan   what a run takes; without --plan it runs
  koan view runs/NAME                              look at a run in the browser

Every command has --help with an example, `koan COMMAND --help`. Koan computes on an NVIDIA GPU
if it finds one that it can use, else on the CPU; `koan doctor` says what it finds.
The README and docs/guide/ explain the rest.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Pretrain(supervised::Pretrain),
    Sft(supervised::Sft),
    Prefer(prefer::Prefer),
    Label(label::Label),
    Distill(distill::Distill),
    Rl(rl::Rl),
    Reject(reject::Reject),
    #[command(subcommand)]
    Recipe(recipe::Recipe),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Serve(serve::Serve),
    Score(score::Score),
    Eval(eval::Eval),
    Verify(verify::Verify),
    View(view::View),
    #[command(subcommand)]
    Model(model::Model),
    #[command(subcommand)]
    Data(data::Data),
    #[cfg_attr(feature = "mine", command(subcommand))]
    Mine(mine::Mine),
    #[command(subcommand)]
    Bench(bench::Bench),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    if children::is_keeper() {
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let cli = Cli::try_parse().unwrap_or_else(|error| elsewhere::with_tip(error, &words).exit());
    let _children = Children::adopt();
    let on_several = works_on_several_ranks(&cli.verb);
    let result = interrupt::listen().and_then(|()| ranks::join(on_several)).and_then(|()| run(cli.verb));
    match ranks::leave(result) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) if ranks::is_echo(&error) => ExitCode::FAILURE,
        Err(error) => {
            note!("error: {}", error.chain().next().map(ToString::to_string).unwrap_or_default());
            for cause in error.chain().skip(1) {
                note!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Whether several processes may do it together.
fn works_on_several_ranks(verb: &Verb) -> bool {
    use Verb::{Distill, Prefer, Pretrain, Reject, Rl, Sft};
    matches!(verb, Pretrain(_) | Sft(_) | Rl(_) | Distill(_) | Prefer(_) | Reject(_))
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Demo(verb) => verb.run(),
        Verb::Pretrain(verb) => verb.run(),
        Verb::Sft(verb) => verb.run(),
        Verb::Prefer(verb) => verb.run(),
        Verb::Label(verb) => verb.run(),
        Verb::Distill(verb) => verb.run(),
        Verb::Rl(verb) => verb.run(),
        Verb::Reject(verb) => verb.run(),
        Verb::Recipe(verb) => verb.run(),
        Verb::Generate(verb) => verb.run(),
        Verb::Chat(verb) => verb.run(),
        Verb::Serve(verb) => verb.run(),
        Verb::Score(verb) => verb.run(),
        Verb::Eval(verb) => verb.run(),
        Verb::Verify(verb) => verb.run(),
        Verb::View(verb) => verb.run(),
        Verb::Model(verb) => verb.run(),
        Verb::Data(verb) => verb.run(),
        Verb::Mine(verb) => verb.run(),
        Verb::Bench(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
    }
}
