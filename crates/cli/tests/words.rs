//! Words that people type before they know Koan's.

use std::process::{Command, Output};

fn koan(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_koan")).args(words.split_whitespace()).output().expect("started")
}

/// What wrong usage says.
fn refused(words: &str) -> String {
    let output = koan(words);
    assert_eq!(output.status.code(), Some(2), "koan {words}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn verbs_of_other_programs_are_answered_with_where_it_is() {
    for (typed, said) in [
        ("train", "`koan sft`"),
        ("grpo run.toml", "`preset`"),
        ("ppo", "`koan rl FILE.toml`"),
        ("finetune", "`koan sft FILE.toml`"),
        ("vllm --model m", "`koan serve --model DIR`"),
        ("convert x", "`koan model import FILE.gguf`"),
        ("dpo", "`koan prefer FILE.toml`"),
        ("distillation", "`koan distill FILE.toml`"),
        ("rejection-sampling", "`koan reject FILE.toml`"),
        ("quantize m", "q8_0"),
        ("pipeline", "`koan recipe run FILE.toml`"),
        ("download OWNER/NAME", "`koan model pull OWNER/NAME`"),
        ("pull OWNER/NAME", "`koan model pull OWNER/NAME`"),
        ("run", "--prompt TEXT"),
        ("inference", "`koan chat"),
        ("evaluate", "`koan eval"),
        ("test", "`koan verify"),
        ("plot", "`koan view RUN`"),
        ("tensorboard", "`tensorboard = true`"),
        ("model download OWNER/NAME", "`koan model pull OWNER/NAME`"),
        ("gpu", "`--device cuda:0`"),
        ("nvidia-smi", "`koan doctor`"),
    ] {
        let error = refused(typed);
        assert!(error.contains(said) && !error.contains("similar"), "{typed}: {error}");
    }
    assert!(refused("vreify").contains("'verify'"), "a slip of the pen is still answered with what is near");
    assert!(!refused("data train").contains("koan sft"), "only at the top");
}

#[test]
fn options_of_other_programs_too() {
    for (typed, said) in [
        ("generate --gpu", "`--device cuda:0`"),
        ("rl run.toml --device cuda:first", "cuda:1 for the second"),
        ("rl run.toml --device gpu", "cuda:0"),
        ("rl run.toml --device mps", "on NVIDIA GPUs"),
        ("rl run.toml --device abacus", "use auto, cpu, cuda:0 or reference"),
        ("chat --max_tokens 3", "`--max-new-tokens`"),
        ("rl run.toml --learning-rate=1e-5", "--set"),
        ("rl run.toml --lora", "docs/guide/adapters.md"),
    ] {
        let error = refused(typed);
        assert!(error.contains(said), "{typed}: {error}");
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = koan(&format!("completions {shell}"));
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{shell}");
        for word in ["koan", "generate", "max-new-tokens", "countdown"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(refused("completions csh").contains("powershell"));
}

#[test]
fn the_version_names_a_commit_or_none() {
    let version = String::from_utf8(koan("--version").stdout).expect("text");
    let words: Vec<&str> = version.split_whitespace().collect();
    assert_eq!(words[..2], ["koan", env!("CARGO_PKG_VERSION")]);
    if let Some(commit) = words.get(2) {
        let hex = commit.trim_matches(['(', ')']);
        assert!(hex.len() == 10 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{version}");
    }
}

#[test]
fn every_help_has_an_example() {
    let verbs = |words: &str| -> Vec<String> {
        let help = String::from_utf8(koan(&format!("{words} --help")).stdout).expect("text");
        let list =
            help.split_once("Commands:\n").map(|(_, list)| list.split("\n\n").next().unwrap_or_default());
        let verbs = list.into_iter().flat_map(str::lines).filter_map(|line| line.split_whitespace().next());
        verbs.filter(|verb| *verb != "help").map(|verb| format!("{words} {verb}").trim().to_owned()).collect()
    };
    let mut open = verbs("");
    assert!(open.len() > 10);
    while let Some(words) = open.pop() {
        let below = verbs(&words);
        let help = String::from_utf8(koan(&format!("{words} --help")).stdout).expect("text");
        assert!(!below.is_empty() || help.contains("Example"), "koan {words} --help has no example");
        open.extend(below);
    }
}
