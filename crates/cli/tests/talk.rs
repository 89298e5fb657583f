//! Asking a model: prompts as arguments, from standard input, and in a conversation.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use koan_model::testkit;
use serde_json::Value;

fn folder_with_model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    testkit::write_model(&folder.path().join("model"), 4).expect("a model");
    let path = folder.path().to_owned();
    (folder, path)
}

fn koan(folder: &Path, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_koan"))
        .args(words)
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder.join("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(input.as_bytes()); // it may have ended before
    drop(stdin);
    child.wait_with_output().expect("ended")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn prompts_come_from_arguments_files_and_standard_input() {
    let (_guard, folder) = folder_with_model();
    let generate = ["generate", "--model", "model", "--max-new-tokens", "4"];
    let lines = |more: &[&str], input: &str| -> Vec<Value> {
        let output = koan(&folder, &[&generate[..], more].concat(), input);
        assert!(output.status.success(), "{more:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    fs::write(folder.join("q.jsonl"), "{\"prompt\": \"1 + 2\"}\n{\"prompt\": \"3 + 4\"}\n").expect("written");
    fs::write(folder.join("q.txt"), "1 + 2\n\n  3 + 4\r\n").expect("written");
    let from_file = lines(&["--input", "q.jsonl"], "");
    assert_eq!(from_file.len(), 2);
    assert_eq!(lines(&["--prompt", "1 + 2", "--prompt", "3 + 4"], ""), from_file);
    assert_eq!(lines(&["--input", "-"], "{\"prompt\": \"1 + 2\"}\n\n{\"prompt\": \"3 + 4\"}"), from_file);
    assert_eq!(lines(&["--input", "-", "--lines"], "1 + 2\n3 + 4\n"), from_file);
    assert_eq!(lines(&["--input", "q.txt", "--lines"], ""), from_file);
    for (more, input, said) in [
        (&["--input", "-"][..], "1 + 2\n", "standard input:1: "),
        (&["--input", "-"], "{\"prompt\": \"1\"}\n{\"answer\": 2}\n", "standard input:2: "),
        (&["--input", "-"], "", "standard input"),
        (&["--input", "-", "--lines"], "\n", "standard input has no lines"),
        (&["--prompt", "1", "--input", "q.jsonl"], "", "cannot be used with"),
        (&["--prompt", "1", "--lines"], "", "cannot be used with"),
        (&[], "", "--prompt <TEXT>"),
    ] {
        let output = koan(&folder, &[&generate[..], more].concat(), input);
        assert!(!output.status.success(), "{more:?}");
        assert!(text(&output.stderr).contains(said), "{more:?}: {}", text(&output.stderr));
    }
}

#[test]
fn drafts_change_nothing_that_is_written() {
    let (_guard, folder) = folder_with_model();
    let generate = |drafts: &str| {
        let words =
            ["generate", "--model", "model", "--prompt", "1 + 2", "--max-new-tokens", "80", "--n", "3"];
        let output = koan(&folder, &[&words[..], &["--sequences", "1", "--drafts", drafts]].concat(), "");
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let ((_, without, off), (_, with, on)) = (generate("off"), generate("text"));
    assert_eq!(without, with);
    assert!(
        with.contains("logprobs") && on.contains(" tokens a pass: ") && !off.contains("a pass"),
        "{on}{off}"
    );
    let (is_done, _, error) = generate("guess");
    assert!(!is_done && error.contains("possible values: off, text"), "{error}");
}

#[test]
fn a_pipe_talks_line_by_line_and_a_cut_reply_is_marked() {
    let (_guard, folder) = folder_with_model();
    let mut marked = 0;
    for seed in 0..8 {
        let (seed, file) = (seed.to_string(), format!("said-{seed}.jsonl"));
        let words = ["chat", "--model", "model", "--max-new-tokens", "3", "--seed", &seed];
        let output = koan(&folder, &words, &format!("1 + 2\n/save {file}\n"));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let saved = fs::read_to_string(folder.join(file)).expect("saved");
        let said: Value = serde_json::from_str(&saved).expect("JSON");
        let reply = said["messages"][1]["content"].as_str().expect("a reply");
        assert_eq!(text(&output.stdout), format!("{reply}\n"), "the reply and nothing else");
        // A token of this model is a character, or a special one without text.
        let mark = text(&output.stderr).trim().to_owned();
        let is_cut = mark == "[cut at 3 tokens; --max-new-tokens allows more]";
        assert!(is_cut || (mark.is_empty() && reply.len() < 3), "{reply}: {mark}");
        marked += usize::from(is_cut);
    }
    assert!(marked > 0, "some reply is cut");
    assert!(!folder.join("state").exists(), "a pipe leaves no history");
}

/// With a terminal of `script`, where that is installed.
#[test]
fn on_a_terminal_a_paste_is_one_message_and_what_was_typed_is_kept() {
    let (_guard, folder) = folder_with_model();
    let chat = format!("{} chat --model model --max-new-tokens 3", env!("CARGO_BIN_EXE_koan"));
    let script = Command::new("script")
        .args(["-qec", &chat, "/dev/null"])
        .current_dir(&folder)
        .env("XDG_STATE_HOME", folder.join("state"))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut script) = script else {
        println!("skipped: there is no `script`");
        return;
    };
    let (mut keys, mut out) = (script.stdin.take().expect("piped"), script.stdout.take().expect("piped"));
    let mut screen = Vec::new();
    // A paste of two lines; Ctrl-C at the prompt; a 7 that is erased; a command; Ctrl-D. Each when it is asked for.
    let typed =
        ["\u{1b}[200~1 + 2\r3 + 4\u{1b}[201~\r", "\u{3}", "57\u{7f}\r", "/save said.jsonl\r", "\u{4}"];
    for (asked, message) in (1..).zip(typed) {
        while text(&screen).matches("\u{1b}[?2004h").count() < asked {
            let mut bytes = [0; 256];
            let n = out.read(&mut bytes).expect("read");
            assert!(n > 0, "ended: {}", text(&screen));
            screen.extend(&bytes[..n]);
        }
        keys.write_all(message.as_bytes()).expect("typed");
    }
    out.read_to_end(&mut screen).expect("read");
    let screen = text(&screen);
    assert!(script.wait().expect("ended").success(), "{screen}");
    let said: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("said.jsonl")).expect("saved")).expect("JSON");
    let said = said["messages"].as_array().expect("messages").iter().step_by(2);
    let said: Vec<&str> = said.filter_map(|message| message["content"].as_str()).collect();
    assert_eq!(said, ["1 + 2\n3 + 4", "5"]);
    let history = folder.join("state/koan/chat_history");
    assert!(fs::read_to_string(&history).expect("kept").contains("/save said.jsonl"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&history).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
