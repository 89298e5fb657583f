//! `koan mine`, in programs that have it and in those that have not.

use std::process::{Command, Output};

fn koan(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_koan")).args(words).output().expect("started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[cfg(not(feature = "mine"))]
#[test]
fn a_program_without_it_says_how_to_get_one() {
    let output = koan(&["mine", "run", "mine.toml", "--workers", "2"]);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("koan mine run mine.toml") && said(&output).contains("--features mine"),
        "{}",
        said(&output)
    );
    assert!(said(&koan(&["--help"])).contains("maths corpus"));
}

#[cfg(feature = "mine")]
mod with {
    use super::*;
    use std::{fs, path::Path};

    /// A word of letters, another for each number below 1000.
    fn word(n: usize) -> String {
        const SYLLABLES: [&str; 10] = ["ba", "ne", "li", "to", "ru", "ka", "me", "di", "so", "fu"];
        [n / 100, n / 10, n].map(|i| SYLLABLES[i % 10]).concat()
    }

    /// A crawl of forty pages in two files, and its config.
    fn crawl(folder: &Path) -> String {
        for file in 0..2 {
            let page = |n: usize| {
                let words =
                    (0..50).map(|i| word((n * 7919 + i * i * 31) % 997)).collect::<Vec<_>>().join(" ");
                let html = format!("<html><body><article><p>Page {n}: {words}.</p></article></body></html>");
                let body = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{html}");
                let head = format!(
                    "WARC-Type: response\r\nWARC-Target-URI: http://a.example/{n}\r\nContent-Length: {}",
                    body.len()
                );
                format!("WARC/1.0\r\n{head}\r\n\r\n{body}\r\n\r\n")
            };
            let pages: String = (0..20).map(|n| page(file * 20 + n)).collect();
            fs::write(folder.join(format!("{file}.warc")), pages).expect("written");
        }
        let config = folder.join("mine.toml");
        let at = |name: &str| folder.join(name).display().to_string();
        let text = format!("input = [{:?}]\nrun_dir = {:?}\n", at("*.warc"), at("run"));
        fs::write(&config, text).expect("written");
        config.display().to_string()
    }

    #[test]
    fn a_crawl_is_mined_at_once_and_by_the_scripts_of_a_plan() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = crawl(folder.path());
        let whole = folder.path().join("whole").display().to_string();
        let output = koan(&["mine", "run", &config, "--run-dir", &whole, "--workers", "2"]);
        assert!(output.status.success() && said(&output).contains("40 documents"), "{}", said(&output));
        let stats = koan(&["data", "stats", &format!("{whole}/corpus/*.jsonl.zst")]);
        assert!(said(&stats).contains("20 rows (text 20)"), "{}", said(&stats));

        let planned = koan(&["mine", "plan", &config, "--slurm", "--shards", "2", "--cpus", "1"]);
        assert!(planned.status.success(), "{}", said(&planned));
        for (stage, shards) in
            [("pages", 2), ("urls", 2), ("near", 2), ("clusters", 1), ("write", 2), ("report", 1)]
        {
            for shard in 0..shards {
                let script = folder.path().join(format!("run/slurm/{stage}.sbatch"));
                let output =
                    Command::new("bash").arg(script).env("SLURM_ARRAY_TASK_ID", shard.to_string()).output();
                let output = output.expect("bash");
                assert!(output.status.success(), "{}", said(&output));
            }
        }
        for name in ["report.json", "corpus/00000.jsonl.zst", "corpus/00001.jsonl.zst"] {
            let read = |run: &str| fs::read(folder.path().join(run).join(name)).expect(name);
            assert_eq!(read("run"), read("whole"), "{name}");
        }
    }

    /// The recipe with few pages and steps: all its files fit one another and the program.
    #[test]
    fn the_recipe_mine_tiny_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        fs::create_dir(folder.path().join("recipes")).expect("made");
        for entry in fs::read_dir(recipes).expect("recipes") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            if name.starts_with("mine-tiny") {
                let text = fs::read_to_string(entry.path()).expect("read");
                let text = text.replace("steps = 150", "steps = 4").replace("every = 50", "every = 4");
                let text = text.replace("batch_tokens = 4096", "batch_tokens = 512");
                fs::write(folder.path().join("recipes").join(name), text).expect("written");
            }
        }
        let mut script = Command::new("sh");
        script.arg("recipes/mine-tiny.sh").current_dir(folder.path());
        let output = script.env("KOAN", env!("CARGO_BIN_EXE_koan")).env("PAGES", "400").output().expect("sh");
        assert!(output.status.success(), "{}", said(&output));
        for name in ["mined", "random"] {
            let loss = said(&output).lines().find_map(|line| {
                line.strip_prefix(&format!("{name}: held-out loss, nats a byte: "))?.parse::<f64>().ok()
            });
            assert!(loss.is_some_and(|loss| loss > 0.0 && loss < 6.0), "{name}: {loss:?}\n{}", said(&output));
        }
    }

    #[test]
    fn the_help_of_every_verb_has_an_example() {
        for verb in ["run", "train", "iterate", "domains", "plan", "example"] {
            let output = koan(&["mine", verb, "--help"]);
            assert!(output.status.success() && said(&output).contains("Example"), "koan mine {verb}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = crawl(folder.path());
        for (words, wanted) in [
            (vec!["run", "none.toml"], "none.toml"),
            (vec!["run", &config, "--stage", "map"], "there is no stage `map`"),
            (vec!["run", &config, "--stage", "pages", "--shard", "3/2"], "give I/N"),
            (vec!["run", &config, "--shard", "1/2"], "--stage"),
            (vec!["run", &config, "--stage", "write"], "run that stage first"),
            (vec!["run", &config, "--workers", "0"], "at least 1"),
            (vec!["plan", &config], "--slurm"),
        ] {
            let output = koan(&[&["mine"][..], &words].concat());
            assert!(
                !output.status.success() && said(&output).contains(wanted),
                "{words:?}: {}",
                said(&output)
            );
        }
    }
}
