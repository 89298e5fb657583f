//! Steps that are verbs: their settings are the verb's options, with _ in the place of -.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Command, FromArgMatches, Subcommand};
use koan_recipe::Kind;
use koan_train::config::with_nearest_name;
use toml::{Table, Value};

use crate::{
    data::{self, ConvertArgs, decontaminate::DecontaminateArgs},
    eval::Eval,
    generate::Generate,
    label::Label,
    model::Init,
};

/// Options that are the recipe's to give, or that make no sense in one.
const TAKEN: [&str; 24] = [
    "resume",
    "origin",
    "out",
    "report",
    "completions",
    "device",
    "threads",
    "input",
    "lines",
    "prompt",
    "files",
    "help",
    "host",
    "port",
    "derive",
    "agreement",
    "export_label_studio",
    "price_per_hour",
    "suite",
    "compare",
    "chart",
    "version",
    "generator",
    "data",
];

/// A verb with its options.
pub(super) enum Verb {
    Init(Init),
    Import { gguf: PathBuf },
    Problems(data::Generate),
    Generate(Generate),
    Convert(ConvertArgs),
    Decontaminate(DecontaminateArgs),
    Label,
    Eval(Eval),
}

impl Verb {
    /// The verb of a step of `kind` with these `settings`, which writes into `dir`.
    ///
    /// # Errors
    /// Unknown settings, with the nearest that is known, and values.
    pub(super) fn of(kind: Kind, settings: &Table, dir: &Path) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Init => Self::Init(parse(kind, settings, dir)?),
            Kind::Import => Self::Import { gguf: gguf(settings)? },
            Kind::Problems => {
                let generator = settings.get("generator").and_then(Value::as_str);
                let generator = generator.context(
                    "`generator` is missing: which problems, as `koan data generate --help` lists them",
                )?;
                let command = data::Generate::augment_subcommands(command(kind));
                if !data::Generate::has_subcommand(generator) {
                    let kinds: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
                    bail!("there is no generator `{generator}`; there are {}", kinds.join(", "));
                }
                let own = command.find_subcommand(generator).cloned();
                let words = own.map(|own| words(&own, kind, settings, dir)).transpose()?.unwrap_or_default();
                let all = std::iter::once(generator.to_owned()).chain(words);
                let matches = command.try_get_matches_from(all).map_err(|e| brief(&e))?;
                Self::Problems(data::Generate::from_arg_matches(&matches).map_err(|e| brief(&e))?)
            }
            Kind::Generate => Self::Generate(parse(kind, settings, dir)?),
            Kind::Convert => Self::Convert(parse(kind, settings, dir)?),
            Kind::Decontaminate => Self::Decontaminate(parse(kind, settings, dir)?),
            Kind::Label => {
                // People type it; here it is only checked.
                parse::<Label>(kind, settings, dir)?;
                Self::Label
            }
            Kind::Eval => Self::Eval(parse(kind, settings, dir)?),
            other => bail!("`{other}` is no verb with options"),
        })
    }
}

/// The file that a step of the kind `import` reads.
fn gguf(settings: &Table) -> anyhow::Result<PathBuf> {
    if let Some(key) = settings.keys().find(|key| *key != "gguf") {
        bail!("unknown field `{key}`, expected `gguf`");
    }
    let gguf = settings.get("gguf").and_then(Value::as_str);
    Ok(gguf.context("`gguf` is missing: the file to import, such as gguf = \"SmolLM2.Q4_1.gguf\"")?.into())
}

fn command(kind: Kind) -> Command {
    Command::new(kind.name()).no_binary_name(true).disable_help_flag(true)
}

fn parse<T: Args>(kind: Kind, settings: &Table, dir: &Path) -> anyhow::Result<T> {
    let command = T::augment_args(command(kind));
    let words = words(&command, kind, settings, dir)?;
    let matches = command.try_get_matches_from(words).map_err(|e| brief(&e))?;
    T::from_arg_matches(&matches).map_err(|e| brief(&e))
}

/// What clap says, without its usage, in the words of a recipe.
fn brief(error: &clap::Error) -> anyhow::Error {
    let text = error.to_string();
    let line = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    anyhow!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The words of a command line.
fn words(command: &Command, kind: Kind, settings: &Table, dir: &Path) -> anyhow::Result<Vec<String>> {
    let name = |arg: &clap::Arg| arg.get_long().map(|long| long.replace('-', "_"));
    let options: Vec<(String, &clap::Arg)> =
        command.get_arguments().filter_map(|arg| Some((name(arg)?, arg))).collect();
    let takes_data = !matches!(kind, Kind::Init | Kind::Problems);
    let own = match kind {
        Kind::Problems => Some("generator"),
        _ => takes_data.then_some("data"),
    };
    let known: Vec<&str> =
        options.iter().map(|(name, _)| &**name).filter(|name| !TAKEN.contains(name)).chain(own).collect();
    let mut words = Vec::new();
    for (key, value) in settings {
        if Some(&**key) == own {
            continue;
        }
        if !known.contains(&&**key) {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("unknown field `{key}`, expected one of {}", names.join(", "));
            bail!("{}", with_nearest_name(&message, &[]));
        }
        // A reward model draws nothing: the recipe's seed is not its.
        if kind == Kind::Eval && key == "seed" && settings.contains_key("reward_model") {
            continue;
        }
        let option = options.iter().find(|(name, _)| name == key).map(|(_, arg)| *arg);
        let option = option.context("an option is known by its name")?;
        let long = format!("--{}", option.get_long().unwrap_or_default());
        if !option.get_action().takes_values() {
            match value {
                Value::Boolean(true) => words.push(long),
                Value::Boolean(false) => {}
                _ => bail!("`{key}` is {value}: write true or false"),
            }
            continue;
        }
        let values = match value {
            Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        for value in values {
            words.push(format!("{long}={}", text(key, &value)?));
        }
    }
    let data = match (settings.get("data"), takes_data) {
        (_, false) => Vec::new(),
        (Some(Value::Array(files)), _) if !files.is_empty() => files.clone(),
        (Some(file @ Value::String(_)), _) => vec![file.clone()],
        _ => bail!("`data` is missing: a file, a list of files, or \"@STEP\""),
    };
    let data = data.iter().map(|file| text("data", file)).collect::<anyhow::Result<Vec<_>>>()?;
    let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
    match kind {
        Kind::Generate => {
            words.extend(data.iter().map(|file| format!("--input={file}")));
            words.extend(["--resume".to_owned(), "--origin".to_owned()]);
        }
        Kind::Eval => words.extend(data.iter().map(|file| format!("--data={file}"))),
        _ => {}
    }
    match kind {
        Kind::Init => words.push(format!("--out={}", at("model"))),
        Kind::Eval => {
            words.push(format!("--out={}", at("report.json")));
            if !settings.contains_key("reward_model") {
                words.push(format!("--completions={}", at("completions.jsonl")));
            }
        }
        Kind::Label => words.push(format!("--out={}", at("labels.jsonl"))),
        _ => words.push(format!("--out={}", at("data.jsonl"))),
    }
    if kind == Kind::Decontaminate {
        words.push(format!("--report={}", at("report.json")));
    }
    if matches!(kind, Kind::Convert | Kind::Decontaminate | Kind::Label) {
        words.push("--".to_owned());
        words.extend(data);
    }
    Ok(words)
}

fn text(key: &str, value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => bail!("`{key}` is {value}: write a text, a number, or a list of such"),
    }
}

/// The command by which people label what `settings` name, into `dir`.
pub(super) fn label_command(settings: &Table, dir: &Path) -> anyhow::Result<String> {
    let command = Label::augment_args(command(Kind::Label));
    let quoted = words(&command, Kind::Label, settings, dir)?.into_iter().map(|word| {
        let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./,@:+".contains(c));
        if is_plain { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    Ok(format!("koan label {}", quoted.collect::<Vec<_>>().join(" ")))
}
