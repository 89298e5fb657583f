//! Koan, the program: one file a verb. It parses words, opens files and devices, and shows progress; the work is done by
//! the libraries.
#![forbid(unsafe_code)]
// `say!` and `note!` outlive a reader who goes away; `println!` and `eprintln!` panic.
#![deny(clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
mod output;

mod bench;
mod chat;
mod data;
mod demo;
mod device;
mod eval;
mod generate;
mod interrupt;
mod model;
mod progress;
mod rl;
mod score;
mod stage;
mod supervised;
mod verify;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Reasoning models by reinforcement learning from answers that a program can check
#[derive(Parser)]
#[command(name = "koan", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Demo),
    Pretrain(supervised::Pretrain),
    Sft(supervised::Sft),
    Rl(rl::Rl),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Score(score::Score),
    Eval(eval::Eval),
    Verify(verify::Verify),
    View(view::View),
    #[command(subcommand)]
    Model(model::Model),
    #[command(subcommand)]
    Data(data::Data),
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Demo(verb) => verb.run(),
        Verb::Pretrain(verb) => verb.run(),
        Verb::Sft(verb) => verb.run(),
        Verb::Rl(verb) => verb.run(),
        Verb::Generate(verb) => verb.run(),
        Verb::Chat(verb) => verb.run(),
        Verb::Score(verb) => verb.run(),
        Verb::Eval(verb) => verb.run(),
        Verb::Verify(verb) => verb.run(),
        Verb::View(verb) => verb.run(),
        Verb::Model(verb) => verb.run(),
        Verb::Data(verb) => verb.run(),
        Verb::Bench(verb) => verb.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            note!("error: {}", error.chain().next().map(ToString::to_string).unwrap_or_default());
            for cause in error.chain().skip(1) {
                note!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
