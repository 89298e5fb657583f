//! Every command of the README and the guides runs as it is written: the README from top to bottom, then the guides in the order of
//! their names, in one folder.
//!
//! What is put in the place of something else, and what is shortened:
//! - `models/smollm2` is a tiny model with random weights: `koan model import` copies it, `pip`, `cargo` and `python3 -m zipfile` do nothing;
//! - `koan rl` has 2 problems per step, 4 completions each, of 4 tokens;
//! - `koan reject` likewise, and keeps what is cut or wrong: nothing that such a model says is right;
//! - `koan recipe` of the recipe that comes with the project likewise;
//! - `koan demo` is only asked for its help: a test of its own runs it; `koan view` is ended after a second, `koan serve` after four, `koan label` after three.
//!
//! A block below `<!-- not run: REASON -->` is not run.

#![cfg(unix)]

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// A block of commands.
struct Block {
    place: String,
    commands: String,
    /// Why it is not run.
    not_run: Option<String>,
}

fn blocks(root: &Path, file: &str) -> Vec<Block> {
    let text = fs::read_to_string(root.join(file)).expect(file);
    let (mut blocks, mut open, mut before) = (Vec::new(), None::<Block>, "");
    for (number, line) in (1..).zip(text.lines()) {
        match &mut open {
            None if ["```sh", "```bash", "```console", "```shell"].contains(&line.trim()) => {
                let not_run = before.trim().strip_prefix("<!-- not run:").map(|reason| {
                    let reason = reason.trim_end_matches("-->").trim().to_owned();
                    assert!(reason.split(' ').count() > 2, "{file}:{number}: why is it not run?");
                    reason
                });
                open = Some(Block { place: format!("{file}:{number}"), commands: String::new(), not_run });
            }
            None => before = line,
            Some(block) if line.trim() == "```" => {
                assert!(!block.commands.trim().is_empty(), "{}: no commands", block.place);
                blocks.extend(open.take());
                before = "";
            }
            Some(block) => writeln!(block.commands, "{line}").expect("a string"),
        }
    }
    assert!(open.is_none(), "{file}: a block without an end");
    blocks
}

/// Programs that stand in for others, in a folder that is searched first.
fn write_programs(folder: &Path, model: &Path) -> PathBuf {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).expect("made");
    let put = |name: &str, script: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    };
    let (koan, model) = (env!("CARGO_BIN_EXE_koan"), model.display());
    put(
        "koan",
        &format!(
            "case \"$1 $2\" in\n\
             'model import') out=\"${{@: -1}}\"; mkdir -p \"$(dirname \"$out\")\"; cp -r {model} \"$out\" ;;\n\
             'demo '*) {koan} \"$@\" --help > help.txt ;;\n\
             'rl '*) {koan} \"$@\" --set rollout.problems=2 --set rollout.group_size=4 --set rollout.max_new_tokens=4 ;;\n\
             'reject '*) {koan} \"$@\" --set rollout.problems=800 --set rollout.group_size=2 --set rollout.max_new_tokens=4 \
               --set filter.cut=false --set filter.wrong=false --set keep.pass_rate='[0, 1]' ;;\n\
             'recipe run'|'recipe plan'|'recipe show') case \"$*\" in *self-taught*) set -- \"$@\" --set problems.n=60 --set held-out.n=10 \
               --set chosen.rollout.problems=60 --set chosen.rollout.group_size=2 --set chosen.rollout.max_new_tokens=4 \
               --set chosen.filter.cut=false --set chosen.filter.wrong=false --set chosen.keep.pass_rate='[0, 1]' \
               --set reinforced.steps=2 --set reinforced.rollout.problems=2 --set reinforced.rollout.group_size=4 \
               --set reinforced.rollout.max_new_tokens=4 ;; esac; {koan} \"$@\" ;;\n\
             'view '*) timeout -s INT 1 {koan} \"$@\"; [ $? = 124 ] ;;\n\
             'serve '*) timeout -s INT 4 {koan} \"$@\"; [ $? = 124 ] ;;\n\
             'label '*) timeout -s INT 3 {koan} \"$@\" || [ $? = 124 ] ;;\n\
             *) {koan} \"$@\" ;;\n\
             esac"
        ),
    );
    put("cargo", "true");
    put("pip", "true");
    let python = Command::new("sh").args(["-c", "command -v python3"]).output().expect("a shell").stdout;
    let python = String::from_utf8_lossy(&python).trim().to_owned();
    put("python3", &format!("[ \"$1 $2\" = '-m zipfile' ] || exec {python} \"$@\""));
    bin
}

#[test]
fn every_command_of_the_readme_and_the_guides_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().expect("a folder");
    let (work, model) = (folder.path().join("clone"), folder.path().join("tiny"));
    fs::create_dir_all(work.join("recipes")).expect("made");
    let recipes = fs::read_dir(root.join("recipes")).expect("recipes").flatten();
    for recipe in recipes.filter(|recipe| recipe.path().is_file()) {
        fs::copy(recipe.path(), work.join("recipes").join(recipe.file_name())).expect("copied");
    }
    let made = Command::new(env!("CARGO_BIN_EXE_koan"))
        .args(["model", "init", "--tiny", "--out"])
        .arg(&model)
        .output();
    let made = made.expect("started");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bin = write_programs(folder.path(), &model);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let missing: Vec<&str> =
        ["jq", "timeout", "python3"].into_iter().filter(|program| !has(program)).collect();

    let guides = fs::read_dir(root.join("docs/guide")).expect("guides").flatten();
    let mut files: Vec<String> =
        guides.map(|guide| format!("docs/guide/{}", guide.file_name().to_string_lossy())).collect();
    files.sort();
    files.insert(0, "README.md".to_owned());
    let (mut failed, mut ran) = (String::new(), 0);
    for block in files.iter().flat_map(|file| blocks(&root, file)) {
        if block.not_run.is_some() || missing.iter().any(|program| block.commands.contains(program)) {
            continue;
        }
        let output = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", &block.commands])
            .current_dir(&work)
            .env("PATH", &path)
            .env_remove("HF_TOKEN")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("bash");
        ran += 1;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let end: Vec<&str> = said.lines().rev().take(6).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            writeln!(failed, "{}:\n{}{}\n", block.place, block.commands, end.join("\n")).expect("a string");
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(ran > 15 || !missing.is_empty(), "{ran} blocks");
}
