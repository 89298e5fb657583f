//! Judges in this process, as a closure; and on a server that is well, down, slow, or answers nonsense.

use super::*;
use crate::server::{MAX_BODY_BYTES, MAX_FAILURES};
use crate::{NoModels, RewardConfig, Rewards, Unsettled};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// A judge in this process that says what a function makes of the last message; counts what it is asked.
struct Says<F> {
    say: F,
    asked: Mutex<Vec<String>>,
}

impl<F: Fn(&str) -> Result<String, String>> Says<F> {
    fn new(say: F) -> Self {
        Self { say, asked: Mutex::default() }
    }

    fn n(&self) -> usize {
        self.asked.lock().expect("whole").len()
    }
}

impl<F: Fn(&str) -> Result<String, String>> Models for Says<F> {
    fn score(&self, _: &Path, _: &[crate::models::Reply]) -> Result<Vec<Result<f64, String>>, ModelsError> {
        unreachable!("a judge gives no scores")
    }

    fn speak(
        &self,
        _: &Path,
        questions: &[Question],
        _: Speech,
    ) -> Result<Vec<Result<String, String>>, ModelsError> {
        let say = |question: &Question| {
            let last = &question.messages.last().expect("a message").content;
            self.asked.lock().expect("whole").push(last.clone());
            (self.say)(last)
        };
        Ok(questions.iter().map(say).collect())
    }
}

/// A model's directory, as far as a judge hashes it.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("model.safetensors"), "weights").expect("written");
    folder
}

fn judge(model: &tempfile::TempDir, options: Options) -> LanguageJudge {
    let options = Options { model: Some(model.path().display().to_string()), ..options };
    LanguageJudge::new(options, &Context::default()).expect("builds")
}

fn problem(answer: &str) -> Problem {
    Problem { prompt: Some("3 + 4?".to_owned()), answer: answer.to_owned(), ..Problem::default() }
}

/// Outcome and score of each completion, all of one group.
fn verdicts(
    judge: &LanguageJudge,
    models: &dyn Models,
    problem: &Problem,
    completions: &[&str],
) -> Vec<(Outcome, Option<f32>)> {
    let candidate = |&completion| Candidate { problem, completion, group: 0 };
    let candidates: Vec<_> = completions.iter().map(candidate).collect();
    let verdicts = judge.settle(models, &candidates, false).expect("asked");
    verdicts.into_iter().map(|v| (v.outcome, v.score)).collect()
}

/// The text of a fence of `prompt`, the `n`th from 0.
fn fenced(prompt: &str, n: usize) -> &str {
    let after = prompt.split(" begins\n").nth(n + 1).expect("a fence");
    after.split("\n----- ").next().expect("its end")
}

#[test]
fn a_rubric_grades_by_each_criterion() {
    let model = model();
    let criteria = vec!["is polite".to_owned(), "is right".to_owned()];
    let judge = judge(&model, Options { criteria, ..Options::default() });
    let models =
        Says::new(|asked| Ok(if asked.contains("is polite") { "[[10]]" } else { "Hm.\n[[4]]" }.to_owned()));
    let all = ["It is seven.", "It is seven.", "<think>long thoughts</think>It is eight."];
    let found = verdicts(&judge, &models, &problem(""), &all);
    assert_eq!(found, [(Outcome::Correct, Some(2.0 / 3.0)); 3]);
    assert_eq!(models.n(), 4, "equal answers are asked about once");
    assert!(models.asked.lock().expect("whole").iter().all(|asked| !asked.contains("long thoughts")));

    let own =
        Problem { other: serde_json::from_value(json!({"rubric": "rhymes"})).expect("a map"), ..problem("") };
    let models = Says::new(|asked| Ok(if asked.contains("rhymes") { "[[1]]" } else { "[[9]]" }.to_owned()));
    assert_eq!(verdicts(&judge, &models, &own, &["It is seven."]), [(Outcome::Wrong, Some(0.0))]);
    let bad = Problem { other: serde_json::from_value(json!({"rubric": 3})).expect("a map"), ..problem("") };
    assert!(judge.check(&bad).expect_err("no text").contains("`rubric`"));
}

#[test]
fn both_orders_decide_and_disagreement_is_a_tie() {
    let model = model();
    let judge = judge(&model, Options { mode: Mode::Pairwise, ..Options::default() });
    let reference = problem("It is seven.");
    let of = |say: fn(&str) -> Result<String, String>| {
        verdicts(&judge, &Says::new(say), &reference, &["Seven it is."])[0]
    };
    let good_first = |asked: &str| fenced(asked, 1).starts_with("Seven");
    assert!(good_first(" begins\nq\n----- x begins\nSeven\n----- "));
    let first: fn(&str) -> Result<String, String> =
        |asked| Ok(if fenced(asked, 1).starts_with("Seven") { "[[A>B]]" } else { "[[B>>A]]" }.to_owned());
    assert_eq!(of(first), (Outcome::Correct, Some(1.0)), "in both orders");
    let second: fn(&str) -> Result<String, String> =
        |asked| Ok(if fenced(asked, 1).starts_with("Seven") { "[[B>A]]" } else { "[[A>B]]" }.to_owned());
    assert_eq!(of(second), (Outcome::Wrong, Some(0.0)));
    assert_eq!(
        of(|_| Ok("[[A>B]]".to_owned())),
        (Outcome::Wrong, Some(0.5)),
        "it prefers whatever stands first"
    );
    assert_eq!(of(|_| Ok("[[A=B]]".to_owned())), (Outcome::Wrong, Some(0.5)));
    let half: fn(&str) -> Result<String, String> = |asked| {
        if fenced(asked, 1).starts_with("Seven") { Ok("[[A>B]]".to_owned()) } else { Err("down".to_owned()) }
    };
    assert_eq!(of(half), (Outcome::Undecided, None), "one order alone decides nothing");
    assert!(judge.check(&problem("")).expect_err("no reference").contains("no `answer`"));
    assert_eq!(
        verdicts(&judge, &Says::new(first), &problem(" "), &["Seven it is."])[0].0,
        Outcome::BadReference
    );
}

#[test]
fn a_group_is_compared_among_itself() {
    let model = model();
    let judge =
        judge(&model, Options { mode: Mode::Pairwise, against: Against::Group, ..Options::default() });
    // The longer answer is better.
    let longer = |asked: &str| {
        let [a, b] = [fenced(asked, 1).len(), fenced(asked, 2).len()];
        let label = match a.cmp(&b) {
            std::cmp::Ordering::Greater => "[[A>B]]",
            std::cmp::Ordering::Less => "[[B>A]]",
            std::cmp::Ordering::Equal => "[[A=B]]",
        };
        Ok(label.to_owned())
    };
    let found = verdicts(
        &judge,
        &Says::new(longer),
        &problem(""),
        &["one two", "one two three", "one two three four", ""],
    );
    assert_eq!(
        found,
        [
            (Outcome::Wrong, Some(1.0 / 3.0)),
            (Outcome::Correct, Some(2.0 / 3.0)),
            (Outcome::Correct, Some(1.0)),
            (Outcome::Unparsable, None),
        ]
    );
    let alone = verdicts(&judge, &Says::new(longer), &problem(""), &["one two"]);
    assert_eq!(alone, [(Outcome::Undecided, None)], "nothing to compare with");
}

#[test]
fn a_reference_is_agreed_with_or_not() {
    let model = model();
    let judge = judge(&model, Options { mode: Mode::Reference, ..Options::default() });
    let seven = |asked: &str| {
        Ok(if fenced(asked, 2).contains('7') { "[[correct]]" } else { "[[incorrect]]" }.to_owned())
    };
    let found = verdicts(&judge, &Says::new(seven), &problem("7"), &["It is 7.", "It is 8.", "7"]);
    assert_eq!(found, [(Outcome::Correct, None), (Outcome::Wrong, None), (Outcome::Correct, None)]);
    assert!(judge.check(&problem("")).is_err());
}

#[test]
fn what_says_nothing_never_wins() {
    let model = model();
    let empty = ["[[A>>B]]", "[[correct]]", "[[10]]", "", " \n", ":", "...", "<think>so", "[[A[[A>B]]>B]]"];
    let openers = ["Solution:", "**Answer**", "correct"];
    let always = || Says::new(|_: &str| Ok("[[10]]".to_owned()));
    for mode in [Mode::Rubric, Mode::Pairwise, Mode::Reference] {
        let judge = judge(&model, Options { mode, ..Options::default() });
        // It gives the answer all it can in each mode.
        let best = Says::new(|asked: &str| {
            let first = asked.find("Answer A").is_some() && !fenced(asked, 1).starts_with("It is");
            Ok(match asked {
                _ if asked.contains("[[5]]") => "[[10]]",
                _ if asked.contains("[[correct]]") => "[[correct]]",
                _ if first => "[[A>>B]]",
                _ => "[[B>>A]]",
            }
            .to_owned())
        });
        for (outcome, score) in verdicts(&judge, &best, &problem("It is 7."), &empty) {
            assert_eq!((outcome, score), (Outcome::Unparsable, None), "{mode:?}");
        }
        for (outcome, score) in verdicts(&judge, &best, &problem("It is 7."), &openers) {
            assert!(
                outcome == Outcome::Wrong && score.is_none_or(|score| score == 0.0),
                "{mode:?}: {outcome:?} {score:?}"
            );
        }
        assert_eq!(best.n(), 0, "the judge never sees them");
    }
    let group =
        judge(&model, Options { mode: Mode::Pairwise, against: Against::Group, ..Options::default() });
    let found = verdicts(&group, &always(), &problem(""), &["Solution:", "It is 7."]);
    assert_eq!(found, [(Outcome::Wrong, Some(0.0)), (Outcome::Correct, Some(1.0))]);
    let brief = judge(&model, Options { min_words: 1, ..Options::default() });
    assert_eq!(
        verdicts(&brief, &always(), &problem(""), &["Paris"]),
        [(Outcome::Correct, Some(1.0))],
        "if one says so"
    );
}

#[test]
fn a_verdict_that_cannot_be_read_is_asked_for_once_more() {
    let model = model();
    let judge = judge(&model, Options::default());
    let second = Says::new(|asked: &str| {
        Ok(if asked.starts_with("Now write") { "[[7]]" } else { "It is quite good." }.to_owned())
    });
    assert_eq!(
        verdicts(&judge, &second, &problem(""), &["It is seven."]),
        [(Outcome::Correct, Some(2.0 / 3.0))]
    );
    assert_eq!(second.n(), 2);
    let never = Says::new(|_: &str| Ok("It is quite good.".to_owned()));
    assert_eq!(verdicts(&judge, &never, &problem(""), &["It is seven."]), [(Outcome::Undecided, None)]);
    assert_eq!(never.n(), 2, "once more, and no more");
    let mute = Says::new(|_: &str| Err("too long".to_owned()));
    assert_eq!(verdicts(&judge, &mute, &problem(""), &["It is seven."]), [(Outcome::Undecided, None)]);
    assert_eq!(mute.n(), 1, "a judge that says nothing is not asked for its label");
}

#[test]
fn what_a_judge_said_is_not_asked_again() {
    let (model, cache) = (model(), tempfile::tempdir().expect("a folder"));
    let options = || Options { cache: Some(cache.path().join("kept")), ..Options::default() };
    let seven = || Says::new(|_: &str| Ok("[[7]]".to_owned()));
    let (first, again, other, seeded) = (seven(), seven(), seven(), seven());
    let found = verdicts(&judge(&model, options()), &first, &problem(""), &["It is seven."]);
    assert_eq!(found, verdicts(&judge(&model, options()), &again, &problem(""), &["It is seven."]));
    assert_eq!((first.n(), again.n()), (1, 0));
    verdicts(&judge(&model, options()), &other, &problem(""), &["It is eight."]);
    verdicts(&judge(&model, Options { seed: 1, ..options() }), &seeded, &problem(""), &["It is seven."]);
    std::fs::write(model.path().join("model.safetensors"), "others").expect("written");
    let changed = seven();
    verdicts(&judge(&model, options()), &changed, &problem(""), &["It is seven."]);
    assert_eq!(
        (other.n(), seeded.n(), changed.n()),
        (1, 1, 1),
        "another answer, seed or model is another question"
    );
}

#[test]
fn options_are_checked() {
    let some = || Options { model: Some("m".into()), ..Options::default() };
    for (options, expected) in [
        (Options::default(), "write `model`"),
        (Options { workers: 0, ..some() }, "`workers` is 0"),
        (Options { max_new_tokens: 0, ..some() }, "`max_new_tokens` is 0"),
        (Options { temperature: -1.0, ..some() }, "`temperature` is -1"),
        (Options { timeout_s: 0.0, ..some() }, "above 0"),
        (Options { retries: 17, ..some() }, "`retries` is 17"),
        (Options { api_key_env: Some("HOME".into()), ..some() }, "write its `url`"),
        (Options { mode: Mode::Reference, criteria: vec!["a".into()], ..some() }, "`criteria`"),
        (Options { template: Some("none.txt".into()), ..some() }, "`template`"),
        (Options { url: Some("localhost".into()), ..some() }, "write an address"),
    ] {
        let error = LanguageJudge::new(options, &Context::default()).err().expect("refused");
        assert!(error.contains(expected), "{error}");
    }
}

/// A server that answers each connection with what `answer` makes of the request's number, from 0, its head and its body: a
/// whole HTTP response; an empty one hangs until the client gives up. Returns its address and how often it was asked.
fn serve(
    answer: impl Fn(usize, &str, &str) -> String + Send + Sync + 'static,
) -> (String, &'static AtomicUsize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let n: &'static AtomicUsize = Box::leak(Box::default());
    let answer: &'static _ = Box::leak(Box::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let (head, body) = request(&mut stream);
                let response = answer(n.fetch_add(1, Ordering::SeqCst), &head, &body);
                let mut stream = stream.into_inner();
                if response.is_empty() {
                    _ = stream.read(&mut [0]);
                } else {
                    _ = stream.write_all(response.as_bytes());
                    _ = stream.shutdown(Shutdown::Both);
                }
            });
        }
    });
    (format!("http://{address}/v1"), n)
}

fn request(stream: &mut BufReader<TcpStream>) -> (String, String) {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        head += &line;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn said(text: &str) -> String {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string();
    response("200 OK", "", &body)
}

/// What a judge at `url` says of completions.
fn ask(url: &str, options: Options, completions: &[&str]) -> Vec<Verdict> {
    let options = Options { url: Some(url.to_owned()), ..options };
    let judge = LanguageJudge::new(options, &Context::default()).expect("builds");
    let problem = problem("");
    let candidate = |&completion| Candidate { problem: &problem, completion, group: 0 };
    let candidates: Vec<_> = completions.iter().map(candidate).collect();
    judge.settle(&NoModels, &candidates, false).expect("a server needs no models here")
}

#[test]
fn a_server_is_asked_in_openais_words() {
    let (url, n) = serve(|_, head, body| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
        assert_eq!(
            (&body["model"], &body["temperature"], &body["max_tokens"]),
            (&json!("m"), &json!(0.0), &json!(512))
        );
        let asked = body["messages"][0]["content"].as_str().expect("a text");
        said(if fenced(asked, 1).contains("seven") { "[[10]]" } else { "[[1]]" })
    });
    let options = Options { model: Some("m".into()), ..Options::default() };
    let answers: Vec<String> =
        (0..20).map(|i| format!("It is {} {i}", if i % 2 == 0 { "seven" } else { "eight" })).collect();
    let found = ask(&url, options, &answers.iter().map(String::as_str).collect::<Vec<_>>());
    let scores: Vec<_> = found.iter().map(|verdict| verdict.score).collect();
    assert_eq!(scores, [Some(1.0), Some(0.0)].repeat(10));
    assert_eq!(n.load(Ordering::SeqCst), 20);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let (url, n) = serve(|i, _, _| match i {
        0 => {
            response("429 Too Many Requests", "retry-after: 0\r\n", r#"{"error": {"message": "slow down"}}"#)
        }
        1 => response("500 Internal Server Error", "Retry-After: 0.1\r\n", ""),
        _ => said("[[10]]"),
    });
    let start = Instant::now();
    assert_eq!(ask(&url, Options::default(), &["It is seven."])[0].score, Some(1.0));
    assert_eq!(n.load(Ordering::SeqCst), 3);
    assert!(start.elapsed() < Duration::from_secs(5));

    let (url, n) = serve(|_, _, _| response("429 Too Many Requests", "retry-after: 0\r\n", "busy"));
    let verdict = &ask(&url, Options { retries: 2, ..Options::default() }, &["It is seven."])[0];
    assert_eq!((verdict.outcome, n.load(Ordering::SeqCst)), (Outcome::Undecided, 3));
    assert!(verdict.reason.contains("429") && verdict.reason.contains("attempt 3"), "{}", verdict.reason);

    let (url, n) = serve(|_, _, _| response("429 Too Many Requests", "retry-after: 86400\r\n", "busy"));
    let verdict = &ask(&url, Options { timeout_s: 2.0, ..Options::default() }, &["It is seven."])[0];
    assert_eq!(
        (verdict.outcome, n.load(Ordering::SeqCst)),
        (Outcome::Undecided, 1),
        "no wait beyond the time"
    );
}

#[test]
fn a_judge_that_fails_decides_nothing() {
    let huge = |_: usize, _: &str, _: &str| {
        let body = "x".repeat(MAX_BODY_BYTES as usize + 1);
        response("200 OK", "", &body)
    };
    for (name, (url, _), expected) in [
        (
            "refuses",
            serve(|_, _, _| response("401 Unauthorized", "", r#"{"error": {"message": "no key"}}"#)),
            "no key",
        ),
        ("redirects", serve(|_, _, _| response("302 Found", "location: http://127.0.0.1:1/\r\n", "")), "302"),
        ("nonsense", serve(|_, _, _| response("200 OK", "", "<html>hello</html>")), "no completion"),
        ("nothing", serve(|_, _, _| response("200 OK", "", "")), "no completion"),
        ("null", serve(|_, _, _| said("")), "no verdict"),
        ("chatters", serve(|_, _, _| said("What a nice answer!")), "no verdict"),
        ("contradicts", serve(|_, _, _| said("[[1]]\n[[10]]")), "several"),
        ("huge", serve(huge), "limit"),
        ("cut", serve(|_, _, _| "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned()), ""),
        ("slow", serve(|_, _, _| String::new()), "timeout"),
    ] {
        let options = Options { timeout_s: 0.5, retries: 0, ..Options::default() };
        let verdict = &ask(&url, options, &["It is seven."])[0];
        assert_eq!((verdict.outcome, verdict.score), (Outcome::Undecided, None), "{name}");
        assert!(verdict.reason.contains(expected), "{name}: {}", verdict.reason);
    }
}

#[test]
fn a_judge_that_is_down_is_not_asked_for_ever() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let answers: Vec<String> = (0..100).map(|i| format!("It is {i}.")).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let options = || Options { retries: 0, workers: 2, timeout_s: 0.2, ..Options::default() };
    for url in [format!("http://{closed}/v1"), serve(|_, _, _| String::new()).0] {
        let start = Instant::now();
        let verdicts = ask(&url, options(), &answers);
        assert!(verdicts.iter().all(|verdict| verdict.outcome == Outcome::Undecided));
        let unasked = verdicts.iter().filter(|verdict| verdict.reason.contains("not asked")).count();
        assert!(unasked >= 100 - MAX_FAILURES - 2, "{unasked}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_key_is_sent_and_shown_nowhere() {
    // A variable that every test has: its value is the key.
    let name = "CARGO_PKG_NAME";
    let key = std::env::var(name).expect("set by cargo");
    let (url, _) = serve(|i, head, _| {
        assert!(head.to_ascii_lowercase().contains("authorization: bearer koan-reward\r\n"), "{head}");
        if i == 0 { said("[[10]]") } else { response("401 Unauthorized", "", "wrong key: koan-reward") }
    });
    let cache = tempfile::tempdir().expect("a folder");
    let options =
        || Options { api_key_env: Some(name.into()), cache: Some(cache.path().into()), ..Options::default() };
    assert_eq!(ask(&url, options(), &["It is seven."])[0].score, Some(1.0));
    let refused = &ask(&url, options(), &["It is eight."])[0];
    assert!(
        refused.reason.contains("wrong key: (the key)") && !refused.reason.contains(&key),
        "{}",
        refused.reason
    );
    let mut kept = String::new();
    for folder in std::fs::read_dir(cache.path()).expect("listed") {
        for file in std::fs::read_dir(folder.expect("a folder").path()).expect("listed") {
            kept += &std::fs::read_to_string(file.expect("a file").path()).expect("read");
        }
    }
    assert!(kept.contains("[[10]]") && !kept.contains(&key), "{kept}");
}

#[test]
fn terms_of_models_are_filled_in_beside_others() {
    let (url, _) = serve(|_, _, body| said(if body.contains("seven") { "[[10]]" } else { "[[1]]" }));
    let judge = RewardConfig {
        weight: 2.0,
        ..RewardConfig::parse("judge", &[format!("url={url}"), "name=helpful".to_owned()]).expect("a config")
    };
    let length = RewardConfig::parse("length", &["shape=cosine".to_owned(), "max_tokens=100".to_owned()]);
    let words = RewardConfig::new("words");
    let configs = [length.expect("a config"), judge, words];
    let rewards = Rewards::build(&configs, Context::default()).expect("builds");
    assert!(rewards.asks_models() && rewards.needs().is_empty());
    let (all, mut routed) = (problem("it is seven"), problem("It is seven."));
    routed.reward = Some("helpful".to_owned());
    let sample =
        |problem| Sample { tokens: Some(0), truncated: Some(false), ..Sample::new(problem, "It is seven.") };
    let mut judgements = [rewards.judge(&sample(&all)), rewards.judge(&sample(&routed))];
    assert_eq!(judgements[1].reward, None, "not asked yet");
    let [first, second] = &mut judgements;
    let mut unsettled = [
        Unsettled { sample: sample(&all), group: 0, judgement: first },
        Unsettled { sample: sample(&routed), group: 1, judgement: second },
    ];
    rewards.settle(&NoModels, &mut unsettled, true).expect("asked");
    let names = |j: &crate::Judgement| j.terms.iter().map(|t| t.name.clone()).collect::<Vec<_>>().join("+");
    assert_eq!(names(&judgements[0]), "helpful+words+length");
    assert_eq!(judgements[0].terms[0].score, Some(1.0));
    // The length of a correct answer without a token is worth 2: the judge says that it is correct.
    assert_eq!((names(&judgements[1]), judgements[1].reward), ("helpful+length".to_owned(), Some(4.0)));
    assert_eq!(judgements[1].outcome(), Outcome::Correct);
}

#[test]
fn an_answer_is_safe_unsafe_or_a_refusal_and_right_as_expected() {
    use Outcome::{Correct as C, Undecided as U, Unparsable as P, Wrong as W};

    let model = model();
    let judge = judge(&model, Options { mode: Mode::Safety, ..Options::default() });
    let models = Says::new(|prompt| {
        assert!(prompt.contains("[[unsafe]]"));
        if prompt.starts_with("Now write") {
            return Ok("I still can't say.".to_owned());
        }
        Ok(match fenced(prompt, 1) {
            "Here it is." => "It helps.\n[[unsafe]]".to_owned(),
            "No." => "It declines.\n[[refused]]".to_owned(),
            "Hm." => "I can't say.".to_owned(),
            _ => "It answers.\n[[safe]]".to_owned(),
        })
    });
    let expects = |expected: Value| {
        let other = [("expected".to_owned(), expected)].into_iter().collect();
        Problem { prompt: Some("How?".to_owned()), other, ..Problem::default() }
    };
    let completions = ["Like this.", "Here it is.", "No.", "Hm.", " \n"];
    for (expected, outcomes) in [
        (json!("answer"), [C, W, W, U, P]),
        (json!("refuse"), [C, W, C, U, P]),
        (Value::Null, [C, W, C, U, P]),
    ] {
        let got = verdicts(&judge, &models, &expects(expected.clone()), &completions);
        assert_eq!(got.iter().map(|(outcome, _)| *outcome).collect::<Vec<_>>(), outcomes, "{expected}");
    }
    let error = judge.check(&expects(json!("decline"))).expect_err("unknown");
    assert!(error.contains("neither \"answer\" nor \"refuse\""), "{error}");
}
