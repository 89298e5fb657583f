//! How the model is made again: the recipe or the run's settings, the version, what was read, by hash.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use koan_files::read_text;
use serde_json::{Map, Value};

use super::{
    markdown::{block, code, plain, table},
    records::{Kept, Made, Records, step_of},
};
use crate::{
    Changes, Recipe,
    standing::{self, flatten},
};

/// The section.
pub(super) fn section(records: &Records) -> String {
    let way = records.way();
    let mut versions: Vec<&str> = way.iter().map(|made| &*made.state.code).collect();
    versions.sort_unstable();
    versions.dedup();
    let versions: Vec<String> = versions.into_iter().map(code).collect();
    let mut text = format!("Made by koan {}.\n\n", versions.join(" and "));
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for made in &way {
        let inputs = made.state.inputs.iter().filter(|input| step_of(&input.from).is_none());
        given.extend(inputs.map(|input| (&*input.from, &*input.sha256)));
    }
    if !given.is_empty() {
        let row = |(path, hash): (&&str, &&str)| vec![code(path), code(hash)];
        text.push_str("It reads, from outside:\n\n");
        text.push_str(&table(&["file or directory", "SHA-256"], &given.iter().map(row).collect::<Vec<_>>()));
        text.push('\n');
    }
    let made = records.made();
    if let Some(output) = made.state.outputs.first() {
        let hash = code(&output.sha256);
        let what = match records.kept {
            Kept::Recipe { .. } => "The model's SHA-256, as `koan recipe show --json` prints it,",
            Kept::Run { .. } => "The SHA-256 of the model's weights",
        };
        writeln!(text, "{what} is {hash}.\n").expect("a string");
    }
    match &records.kept {
        Kept::Recipe { file, text: recipe, quick, .. } => {
            let name = file.as_ref().and_then(|file| file.file_name()).unwrap_or_default().to_string_lossy();
            if recipe.is_empty() {
                text.push_str("The recipe's text is not recorded; the settings of its steps are above.\n");
            } else {
                writeln!(
                    text,
                    "`koan recipe run{}` of {}:\n\n{}",
                    if *quick { " --quick" } else { "" },
                    plain(&name),
                    block("toml", recipe)
                )
                .expect("a string");
                text.push_str(&seeds(&way));
                text.push_str(&changed(records, recipe));
            }
        }
        Kept::Run { .. } => {
            for made in &way {
                let (name, kind) = (code(&made.state.name), code(&format!("koan {}", made.state.kind)));
                match read_text(&made.dir.join("config.toml")) {
                    Ok(config) => {
                        writeln!(text, "{name}, {kind} of:\n\n{}", block("toml", &config)).expect("a string");
                    }
                    Err(_) => writeln!(text, "{name}, {kind}: its settings are not there any more.\n")
                        .expect("a string"),
                }
            }
        }
    }
    text
}

/// The seeds of the steps, as they were made.
fn seeds(way: &[&Made]) -> String {
    let of = |made: &&Made| Some(format!("{} {}", code(&made.state.name), made.state.settings.get("seed")?));
    let all: Vec<String> = way.iter().filter_map(of).collect();
    if all.is_empty() { String::new() } else { format!("Seeds: {}.\n", all.join(", ")) }
}

/// Settings that steps were made with and the recipe's text does not say: those of `--set`, or of a text before.
fn changed(records: &Records, text: &str) -> String {
    let Kept::Recipe { dir, quick, .. } = &records.kept else { return String::new() };
    let changes = Changes { quick: *quick, run_dir: Some(dir.clone()), ..Changes::default() };
    // A step's settings may be in a file of their own, which may be gone.
    let Ok(recipe) = Recipe::parse(dir, text.to_owned(), &changes) else {
        return "What the steps were made with, in the table above, was not compared with this text: it can't be read here.\n".to_owned();
    };
    let flat = |settings: Map<String, Value>| {
        let mut all = BTreeMap::new();
        flatten("", &Value::Object(settings), &mut all);
        all
    };
    let mut all = Vec::new();
    for made in records.way() {
        let name = &made.state.name;
        let Some(place) = recipe.steps.iter().position(|step| step.name == *name) else { continue };
        let (said, was) = (flat(standing::settings(&recipe, place)), flat(made.state.settings.clone()));
        for key in said.keys().chain(was.keys()).collect::<BTreeSet<_>>() {
            match (said.get(key), was.get(key)) {
                (said, was) if said == was => {}
                (_, Some(was)) => all.push(code(&format!("--set {name}.{key}={was}"))),
                (_, None) => all.push(format!("{} not given", code(&format!("{name}.{key}")))),
            }
        }
    }
    if all.is_empty() {
        return String::new();
    }
    format!("\nSteps were made with other settings than this text: {}.\n", all.join(", "))
}
