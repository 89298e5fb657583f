//! `koan label` as a program: killed between votes, started twice, ended by a signal.

#![cfg(unix)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

fn koan(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_koan"));
    command.args(["label", "rows.jsonl", "--out", "prefs.jsonl"]).args(words).current_dir(folder);
    command
}

fn run(folder: &Path, words: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = koan(folder, words).output().expect("started");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// The program while it serves its page.
struct Serving {
    process: Child,
    address: String,
}

impl Serving {
    fn start(folder: &Path) -> Self {
        let mut process = koan(folder, &["--port", "0", "--repeat", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let stdout = process.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("an address");
        let (_, rest) = line.split_once("http://").expect(&line);
        let address = rest.split('/').next().unwrap_or_default().to_owned();
        Self { process, address }
    }

    fn ask(&self, head: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let (address, length) = (&self.address, body.len());
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
    }

    /// Votes on what is shown; how many votes there are then.
    fn vote(&self, vote: &str) -> u64 {
        let current = self.ask("GET /api/standing?name=kim", "")["current"].clone();
        let body =
            json!({"name": "kim", "item": current["item"], "repeat": false, "vote": vote, "seconds": 1});
        self.ask("POST /api/vote", &body.to_string())["mine"].as_u64().expect("a number")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn no_vote_that_was_acknowledged_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, votes) = (folder.path(), folder.path().join("prefs.votes.jsonl"));
    let rows: Vec<String> =
        (0..12).map(|i| json!({"prompt": i.to_string(), "completions": ["a", "b"]}).to_string()).collect();
    fs::write(folder.join("rows.jsonl"), rows.join("\n")).expect("written");
    let (fine, said) = run(folder, &["--agreement"]);
    assert!(!fine && said.contains("there are no votes at"), "{said}");

    // Killed after every third vote, with a torn line at its end.
    for round in 0..3 {
        let mut serving = Serving::start(folder);
        for i in 1..=3 {
            assert_eq!(serving.vote(if i == 3 { "tie" } else { "a" }), 3 * round + i);
        }
        if round == 0 {
            let (fine, said) = run(folder, &["--port", "0"]);
            assert!(!fine && said.contains("is open in another `koan label`"), "{said}");
            let (fine, said) = run(folder, &["--derive"]);
            assert!(!fine && said.contains("is open in another `koan label`"), "{said}");
            let (fine, said) = run(folder, &["--agreement"]);
            assert!(fine && said.contains("kim"), "{said}");
        }
        serving.process.kill().expect("killed"); // SIGKILL
        serving.process.wait().expect("ended");
        let mut file = fs::File::options().append(true).open(&votes).expect("opened");
        file.write_all(b"{\"n\": 99, \"at\"").expect("written");
    }
    let (fine, said) = run(folder, &["--derive"]);
    assert!(fine && said.contains("prefs.jsonl: 6 rows; 3 without a majority, 3 without a vote"), "{said}");
    let whole = fs::read_to_string(&votes).expect("read");
    assert_eq!(whole.lines().count(), 10);
    assert!(whole.ends_with('\n'), "what was torn is gone");
    let rows = fs::read_to_string(folder.join("prefs.jsonl")).expect("read");
    fs::remove_file(folder.join("prefs.jsonl")).expect("removed");
    assert!(run(folder, &["--derive", "--ties", "drop"]).0);
    assert_eq!(
        fs::read_to_string(folder.join("prefs.jsonl")).expect("read"),
        rows,
        "made again of the votes"
    );
    let (fine, said) = run(folder, &["--derive", "--ties", "keep"]);
    assert!(fine && said.contains("9 rows"), "{said}");

    // Rows appear while people vote; a signal ends it well.
    let mut serving = Serving::start(folder);
    assert_eq!(serving.vote("b"), 10);
    let has_rows =
        || fs::read_to_string(folder.join("prefs.jsonl")).is_ok_and(|rows| rows.lines().count() == 7);
    for _ in 0..200 {
        if has_rows() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(has_rows());
    serving.vote("b");
    let pid = serving.process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let mut rest = String::new();
    serving.process.stdout.take().expect("piped").read_to_string(&mut rest).expect("read");
    assert!(serving.process.wait().expect("ended").success());
    assert!(rest.contains("prefs.jsonl: 8 rows; 3 without a majority, 1 without a vote"), "{rest}");

    let (fine, said) = run(folder, &["--seed", "5"]);
    assert!(!fine && said.contains("begun with another --seed (0)"), "{said}");
    let (fine, said) = run(folder, &["--export-label-studio", "studio.json"]);
    assert!(fine && said.contains("11 votes written"), "{said}");
}

#[test]
fn what_is_asked_wrongly_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("rows.jsonl"), "{\"prompt\": \"p\", \"completions\": [\"a\"]}\n").expect("written");
    for (words, why) in [
        (&["--repeat", "2"][..], "--repeat must be between 0 and 1"),
        (&["--rate", "1"], "2..=9"),
        (&["--ties", "no"], "use drop or keep"),
        (&["--votes-per-pair", "0"], "--votes-per-pair"),
        (&["--derive", "--agreement"], "cannot be used with"),
        (&[], "none of its 1 rows has two different answers"),
    ] {
        let (fine, said) = run(folder, words);
        assert!(!fine && said.contains(why), "{words:?}: {said}");
    }
    assert_eq!(fs::read_dir(folder).expect("listed").count(), 1, "nothing was begun");
}
