//! Labelling over loopback: votes, what is made of them, and clients that mean harm.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use koan_data::{DataFiles, read_preferences, read_rated};
use koan_view::{
    Server,
    label::{LabelError, Labelling, Sharing, Wanted, derive::Ties},
};
use serde_json::{Value, json};

const SHARING: Sharing = Sharing { votes_each: 1, repeat: 0.0 };

/// A folder with rows.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(rows: &[Value]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        fs::write(folder.path().join("rows.jsonl"), lines).expect("written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> DataFiles {
        self.path("rows.jsonl").into()
    }

    fn open(&self, wanted: Wanted, sharing: Sharing) -> Result<Arc<Labelling>, LabelError> {
        Labelling::open(&self.files(), &self.path("prefs.jsonl"), wanted, sharing, Ties::Drop).map(Arc::new)
    }

    fn votes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("prefs.votes.jsonl")).expect("votes");
        text.lines().skip(1).map(|line| serde_json::from_str(line).expect("a vote")).collect()
    }

    fn rows(&self, labelling: &Labelling) -> Vec<Value> {
        labelling.derive().expect("derived");
        let text = fs::read_to_string(self.path("prefs.jsonl")).expect("rows");
        text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    }
}

/// A server of its pages.
struct Site {
    address: String,
}

impl Site {
    fn of(labelling: &Arc<Labelling>) -> Self {
        let server = Server::bind("127.0.0.1", 0).expect("a port");
        let address = server.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let routes = labelling.routes();
        thread::spawn(move || server.run(routes));
        Self { address }
    }

    fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).expect("text");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        (status.unwrap_or_else(|| panic!("no status: {answer:?}")), body.to_owned())
    }

    fn get(&self, target: &str) -> (u16, String) {
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }

    fn post(&self, target: &str, body: &str) -> (u16, String) {
        let own = format!("Origin: http://{}\r\nContent-Type: application/json\r\n", self.address);
        self.post_with(target, &own, body)
    }

    fn post_with(&self, target: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {length}\r\n\r\n",
            self.address
        );
        self.raw(format!("{head}{body}").as_bytes())
    }

    fn json(&self, target: &str) -> Value {
        let (status, body) = self.get(target);
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn standing(&self, name: &str) -> Value {
        self.json(&format!("/api/standing?name={name}"))
    }

    /// What is shown to a person now.
    fn shown(&self, name: &str) -> Value {
        let current = self.standing(name)["current"].clone();
        let (item, repeat) = (current["item"].as_str().expect("an item"), &current["repeat"]);
        self.json(&format!("/api/item?name={name}&item={item}&repeat={repeat}"))
    }

    fn ballot(&self, name: &str, vote: Value) -> Value {
        let current = self.standing(name)["current"].clone();
        json!({"name": name, "item": current["item"], "repeat": current["repeat"], "vote": vote, "seconds": 2.5})
    }

    fn vote(&self, name: &str, vote: impl Into<Value>) -> Value {
        let (status, body) = self.post("/api/vote", &self.ballot(name, vote.into()).to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Votes for the answer that says `text`.
    fn prefer(&self, name: &str, text: &str) -> Value {
        let shown = self.shown(name);
        let first = shown["answers"][0].as_str().is_some_and(|answer| answer.contains(text));
        self.vote(name, if first { "a" } else { "b" })
    }

    fn undo(&self, name: &str) -> Value {
        let votes = self.standing(name)["mine"].clone();
        let (status, body) = self.post("/api/undo", &json!({"name": name, "votes": votes}).to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

/// Rows with a good and a bad answer each.
fn good_and_bad(n: usize) -> Vec<Value> {
    (0..n).map(|i| json!({"id": i, "prompt": format!("Question {i}?"), "completions": [format!("good {i}"), format!("bad {i}")]})).collect()
}

#[test]
fn votes_become_rows_that_prefer_reads() {
    let rows = [
        json!({"id": "gen", "prompt": "7 times 8?", "seed": 5, "model": "m1", "prompt_ids": [1, 2],
            "completions": [{"text": "good 56", "token_ids": [1], "logprobs": [-0.5], "finish_reason": "stop"}, {"text": "bad", "finish_reason": "length"}]}),
        json!({"prompt": "Say hi.", "chosen": "good hi", "rejected": "bad", "chosen_model": "m2", "meta": {"level": 2}}),
        json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Prime?"}], "a": "bad", "b": "good 11"}),
        json!({"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad", "reasoning_content": "hm"}]}),
        json!({"prompt": "alike", "completions": ["x", "x"]}),
        json!({"prompt": "Say hi.", "chosen": "good hi", "rejected": "bad"}),
    ];
    let desk = Desk::new(&rows);
    let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
    let left_out = labelling.left_out();
    assert_eq!((left_out.alike, left_out.repeated, labelling.progress().items), (1, 1, 4));
    let site = Site::of(&labelling);
    for left in (0..4).rev() {
        let told = site.prefer("kim", "good");
        assert_eq!((&told["mine"], &told["left"]), (&json!(4 - left), &json!(left)));
    }
    assert_eq!(site.standing("kim")["current"], Value::Null);
    let rows = desk.rows(&labelling);
    let pairs = read_preferences(&desk.path("prefs.jsonl").into()).expect("preferences");
    assert_eq!(pairs.len(), 4);
    for pair in &pairs {
        assert!(pair.chosen.content.starts_with("good") && pair.rejected.content == "bad", "{pair:?}");
        assert_eq!(pair.margin, Some(1.0));
    }
    assert_eq!(rows[0]["prompt"], "7 times 8?");
    let origin = json!({"model": "m1", "seed": 5, "finish_reason": "stop", "completion": 0});
    assert_eq!(rows[0]["meta"]["origin"]["chosen"], origin);
    assert_eq!(rows[0]["meta"]["votes"], json!({"chosen": 1, "rejected": 0, "tie": 0, "both_bad": 0}));
    assert_eq!((&rows[0]["meta"]["row"], &rows[1]["meta"]["row"]), (&json!("gen"), &json!("line-2")));
    assert_eq!(rows[1]["meta"]["origin"]["chosen"], json!({"field": "chosen", "model": "m2"}));
    assert_eq!(rows[1]["meta"]["source"], json!({"level": 2}));
    assert_eq!(rows[2]["prompt"][1]["content"], "Prime?");
    assert_eq!(rows[3]["rejected"][0]["reasoning_content"], "hm");
    // Nothing that is served says where an answer is from.
    let (_, item) =
        site.get(&format!("/api/item?name=kim&item={}&repeat=false", rows[0]["id"].as_str().expect("an id")));
    assert!(!item.contains("m1") && !item.contains("stop"), "{item}");
}

#[test]
fn the_side_is_random_seeded_and_kept() {
    let desk = Desk::new(&good_and_bad(60));
    let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
    let site = Site::of(&labelling);
    let mut lefts = 0;
    for _ in 0..60 {
        let shown = site.shown("kim");
        let is_good_first = shown["answers"][0].as_str().is_some_and(|text| text.starts_with("good"));
        lefts += usize::from(is_good_first);
        site.vote("kim", if is_good_first { "a" } else { "b" });
        let last = desk.votes().pop().expect("a vote");
        assert_eq!(last["vote"], "a", "the first of the row is the good one");
        assert_eq!(last["shown_first"], if is_good_first { "a" } else { "b" });
    }
    assert!((15..=45).contains(&lefts), "{lefts} of 60");
}

#[test]
fn every_vote_is_kept_raw_and_undo_is_one_more() {
    let desk = Desk::new(&good_and_bad(3));
    let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
    let site = Site::of(&labelling);
    let mut ballot = site.ballot("kim", json!("tie"));
    ballot["comment"] = json!("  both the same  ");
    let sent = ballot.to_string();
    for _ in 0..2 {
        // Sent again because its answer was lost, it is one vote.
        assert_eq!(site.post("/api/vote", &sent).0, 200);
    }
    assert_eq!(desk.votes().len(), 1);
    ballot["vote"] = json!("both_bad");
    let (status, body) = site.post("/api/vote", &ballot.to_string());
    assert!(status == 409 && body.contains("another window"), "{status} {body}");
    let told = site.undo("kim");
    assert_eq!(
        (&told["current"]["item"], &told["mine"], &told["last"]),
        (&ballot["item"], &json!(0), &Value::Null)
    );
    assert_eq!(site.post("/api/undo", "{\"name\": \"kim\", \"votes\": 0}").0, 409);
    assert_eq!(site.post("/api/undo", "{\"name\": \"kim\", \"votes\": 1}").0, 200, "the same request again");
    let told = site.vote("kim", "both_bad");
    assert_eq!(told["last"], "both_bad");
    let votes = desk.votes();
    let said: Vec<&str> = votes.iter().filter_map(|vote| vote["vote"].as_str()).collect();
    assert_eq!(said, ["tie", "undo", "both_bad"]);
    assert_eq!((&votes[0]["comment"], &votes[1]["withdraws"]), (&json!("both the same"), &json!(1)));
    for (vote, n) in votes.iter().zip(1..) {
        assert_eq!((&vote["n"], &vote["annotator"]), (&json!(n), &json!("kim")));
        assert!(vote["at"].as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z')));
        assert_eq!(vote["input"].as_str().map(str::len), Some(64));
    }
    assert_eq!(votes[0]["seconds"], 2.5);
    let derived = labelling.derive().expect("derived");
    assert_eq!((derived.rows, derived.ties, derived.both_bad, derived.unvoted), (0, 0, 1, 2));
}

#[test]
fn what_was_voted_is_there_after_any_end() {
    let desk = Desk::new(&good_and_bad(8));
    let votes = desk.path("prefs.votes.jsonl");
    {
        let labelling = desk.open(Wanted { seed: Some(3), ..Wanted::default() }, SHARING).expect("opened");
        let busy = desk.open(Wanted::default(), SHARING).expect_err("locked").to_string();
        assert!(busy.contains("another `koan label`"), "{busy}");
        let mut votes = Vec::new();
        let site = Site::of(&labelling);
        for _ in 0..5 {
            votes.push(site.prefer("kim", "good"));
        }
        site.undo("kim");
        // The lock ends with the process; here the server still holds it, so the file is copied.
    }
    let whole = fs::read(&votes).expect("read");
    let lines = whole.split(|&b| b == b'\n').count() - 1;
    assert_eq!(lines, 7, "a header, five votes, one taken back");
    let header = whole.iter().position(|&b| b == b'\n').expect("a line") + 1;
    let at = (0..=whole.len())
        .filter(|at| at % 37 == 0 || at + 3 > whole.len() || *at < 3 || at.abs_diff(header) < 2);
    for cut in at {
        let torn = Desk::new(&good_and_bad(8));
        fs::write(torn.path("prefs.votes.jsonl"), &whole[..cut]).expect("written");
        let labelling = torn.open(Wanted { seed: Some(3), ..Wanted::default() }, SHARING).expect("opened");
        let kept = (whole[..cut].split(|&b| b == b'\n').count() - 1).saturating_sub(1);
        let in_force = if kept == 6 { 4 } else { kept };
        assert_eq!(labelling.progress().votes, in_force, "cut at {cut}");
        // It goes on where it was: what was voted on is not asked again.
        let site = Site::of(&labelling);
        let told = site.prefer("kim", "good");
        assert_eq!(told["mine"], json!(in_force + 1));
        assert_eq!(torn.votes().len(), kept + 1);
        assert_eq!(torn.votes().last().map(|vote| vote["n"].clone()), Some(json!(kept + 1)));
    }
    // A line in the middle that is none is named.
    let torn = Desk::new(&good_and_bad(8));
    let text = String::from_utf8(whole).expect("text").replacen("\"annotator\"", "\"who\"", 1);
    fs::write(torn.path("prefs.votes.jsonl"), text).expect("written");
    let error = torn.open(Wanted::default(), SHARING).expect_err("damaged").to_string();
    assert!(error.contains("prefs.votes.jsonl:2: missing field `annotator`"), "{error}");
}

#[test]
fn settings_are_those_that_votes_were_begun_with() {
    let desk = Desk::new(&good_and_bad(3));
    fs::write(desk.path("prefs.jsonl"), "somebody's").expect("written");
    let error = desk.open(Wanted::default(), SHARING).expect_err("theirs").to_string();
    assert!(error.contains("was not made of votes"), "{error}");
    assert!(!desk.path("prefs.votes.jsonl").exists());
    fs::remove_file(desk.path("prefs.jsonl")).expect("removed");
    let none = Labelling::read(&desk.files(), &desk.path("prefs.jsonl"), Wanted::default());
    assert!(matches!(none, Err(LabelError::NoVotes { .. })));

    let itself =
        Labelling::open(&desk.files(), &desk.path("rows.jsonl"), Wanted::default(), SHARING, Ties::Drop);
    assert!(matches!(itself, Err(LabelError::Itself { .. })));

    let wanted = Wanted { seed: Some(9), pairs_per_prompt: Some(2), rate: None };
    drop(desk.open(wanted, SHARING).expect("begun"));
    let settings = desk.open(Wanted::default(), SHARING).expect("goes on").settings();
    assert_eq!((settings.seed, settings.pairs_per_prompt), (9, 2));
    for (other, name) in [
        (Wanted { seed: Some(0), ..Wanted::default() }, "--seed (9)"),
        (Wanted { rate: Some(2), ..Wanted::default() }, "--rate (not given)"),
        (Wanted { pairs_per_prompt: Some(1), ..Wanted::default() }, "--pairs-per-prompt (2)"),
    ] {
        let error = desk.open(other, SHARING).expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn rows_of_which_nothing_can_be_made_are_named() {
    for (row, wanted, why) in [
        (
            json!({"prompt": "p"}),
            Wanted::default(),
            "rows.jsonl:1: expected an object with `prompt` or `messages`",
        ),
        (json!({"prompt": "p", "completion": "c"}), Wanted::default(), "--rate"),
        (json!({"prompt": "p", "chosen": "c"}), Wanted::default(), "`chosen` and `rejected`"),
        (json!({"completions": ["a", "b"]}), Wanted::default(), "has neither `prompt` nor `messages`"),
        (
            json!({"prompt": "p", "messages": [], "completions": ["a", "b"]}),
            Wanted::default(),
            "both `prompt` and `messages`",
        ),
        (json!({"prompt": "p", "completions": ["a"]}), Wanted::default(), "two different answers"),
        (json!({"prompt": "p", "completions": [1]}), Wanted::default(), "rows.jsonl:1"),
        (
            json!({"id": [], "prompt": "p", "completions": ["a", "b"]}),
            Wanted::default(),
            "`id` is neither text nor number",
        ),
        (json!({"prompt": "p", "text": "c"}), Wanted { rate: Some(2), ..Wanted::default() }, "`completion`"),
        (json!([1]), Wanted::default(), "rows.jsonl"),
    ] {
        let error = Desk::new(std::slice::from_ref(&row)).open(wanted, SHARING).expect_err(&row.to_string());
        assert!(error.to_string().contains(why), "{row}: {error}");
    }
}

#[test]
fn completions_make_pairs_in_which_each_is_as_often_as_any() {
    for (n, per_prompt, pairs) in
        [(2, 1, 1), (4, 1, 1), (4, 2, 2), (4, 6, 6), (4, 99, 6), (5, 5, 5), (7, 14, 14), (3, 3, 3)]
    {
        let completions: Vec<String> = (0..n).map(|i| format!("answer {i}")).collect();
        let desk = Desk::new(&[json!({"prompt": "p", "completions": completions})]);
        let wanted = Wanted { pairs_per_prompt: Some(per_prompt), ..Wanted::default() };
        let labelling = desk.open(wanted, SHARING).expect("opened");
        assert_eq!(labelling.progress().items, pairs, "{n} completions, {per_prompt} pairs");
        let site = Site::of(&labelling);
        for _ in 0..pairs {
            site.vote("kim", "a");
        }
        let mut seen = vec![0; n];
        for row in desk.rows(&labelling) {
            for side in ["chosen", "rejected"] {
                seen[row["meta"]["origin"][side]["completion"].as_u64().expect("a place") as usize] += 1;
            }
        }
        let (least, most) = (seen.iter().min().expect("some"), seen.iter().max().expect("some"));
        assert!(most - least <= 1, "{n} completions, {per_prompt} pairs: {seen:?}");
    }
}

#[test]
fn several_people_share_the_work_and_agreement_is_measured() {
    let desk = Desk::new(&good_and_bad(20));
    let labelling = desk.open(Wanted::default(), Sharing { votes_each: 2, repeat: 0.0 }).expect("opened");
    let site = Site::of(&labelling);
    // Two people whose pages are open at once are not both sent to a pair that needs one more vote.
    let (kim, lee) = (site.standing("kim"), site.standing("lee"));
    assert_eq!(kim["all"], json!({"items": 20, "voted": 0, "votes": 0, "wanted": 40, "elsewhere": 0}));
    assert_eq!(kim["left"], lee["left"]);
    for i in 0..20 {
        site.prefer("kim", "good");
        site.prefer("lee", if i < 15 { "good" } else { "bad" });
    }
    assert_eq!(site.standing("max")["current"], Value::Null, "every pair has two votes");
    let agreement = labelling.agreement();
    assert_eq!(agreement.fleiss.items, 20);
    assert!((agreement.fleiss.observed - 0.75).abs() < 1e-12);
    let (one, other, cohen) = &agreement.pairs[0];
    assert_eq!((&one[..], &other[..], cohen.items), ("kim", "lee", 20));
    // The good answer is `a` in every row: kim says one class, lee two. p_o = 0.75, p_e = 0.75, κ = 0.
    assert!((cohen.observed - 0.75).abs() < 1e-12 && cohen.kappa.expect("defined").abs() < 1e-12);
    assert_eq!(agreement.different.len(), 5);
    let printed = agreement.to_string();
    for part in [
        "kim, lee",
        "0.00, same on 75 % of 20 shared",
        "Where people differ (5)",
        "Fleiss' kappa of all: -0.14 (95 % interval",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let derived = labelling.derive().expect("derived");
    assert_eq!((derived.rows, derived.ties), (15, 5), "one against one is no majority");
    // Read beside the server that has it open.
    let read = Labelling::read(&desk.files(), &desk.path("prefs.jsonl"), Wanted::default()).expect("read");
    assert_eq!(read.agreement(), agreement);

    let out = desk.path("studio.json");
    assert_eq!(read.export_label_studio(&out).expect("written"), 40);
    let tasks: Value = serde_json::from_slice(&fs::read(out).expect("read")).expect("JSON");
    assert_eq!((tasks.as_array().map(Vec::len), &tasks[0]["data"]["a"]), (Some(20), &json!("good 0")));
    let result = &tasks[0]["annotations"][0]["result"][0];
    assert_eq!((&result["type"], &result["value"]["selected"]), (&json!("pairwise"), &json!("left")));
}

#[test]
fn one_class_of_votes_has_no_kappa() {
    let desk = Desk::new(&good_and_bad(4));
    let labelling = desk.open(Wanted::default(), Sharing { votes_each: 2, repeat: 0.0 }).expect("opened");
    assert!(labelling.agreement().to_string().contains("No two people voted on the same"));
    let site = Site::of(&labelling);
    for name in ["kim", "lee"] {
        for _ in 0..4 {
            site.vote(name, "tie");
        }
    }
    let printed = labelling.agreement().to_string();
    assert_eq!(printed.matches("undefined: all votes say the same").count(), 2, "{printed}");
}

#[test]
fn some_pairs_come_again_with_the_sides_exchanged_and_do_not_count_twice() {
    let desk = Desk::new(&good_and_bad(30));
    let labelling = desk.open(Wanted::default(), Sharing { votes_each: 1, repeat: 1.0 }).expect("opened");
    let site = Site::of(&labelling);
    let mut repeats = 0;
    while site.standing("kim")["current"] != Value::Null {
        let current = site.standing("kim")["current"].clone();
        if current["repeat"] == true {
            repeats += 1;
            let item = &current["item"];
            let votes = desk.votes();
            let at = votes.iter().position(|vote| vote["item"] == *item).expect("voted on before");
            let is_late = votes.iter().filter(|vote| vote["repeat"] != true).count() == 30;
            assert!(votes.len() - at > 10 || is_late, "after {} votes", votes.len() - at);
            let again = site.shown("kim")["answers"][0].clone();
            let (_, before) =
                site.get(&format!("/api/item?name=kim&item={}&repeat=false", item.as_str().expect("an id")));
            let before: Value = serde_json::from_str(&before).expect("JSON");
            assert_eq!(before["answers"][1], again, "the other side");
            site.vote("kim", if repeats % 3 == 0 { "tie" } else { "b" });
        } else {
            site.prefer("kim", "good");
        }
    }
    assert_eq!(repeats, 30);
    assert_eq!(labelling.progress().votes, 30);
    let habits = &labelling.agreement().people[0];
    assert_eq!((habits.votes, habits.same_again.1), (30, 30));
    assert!(habits.same_again.0 < 30);
    assert_eq!(labelling.derive().expect("derived").rows, 30);
}

#[test]
fn single_answers_are_rated() {
    let rows = [
        json!({"prompt": "p", "completion": "good"}),
        json!({"prompt": "q", "completions": ["good", "bad"]}),
        json!({"messages": [{"role": "user", "content": "r"}], "completion": [{"role": "assistant", "content": "bad"}], "step": 3, "reward": 0.5}),
    ];
    for scale in [2, 5] {
        let desk = Desk::new(&rows);
        let wanted = Wanted { rate: Some(scale), ..Wanted::default() };
        let labelling = desk.open(wanted, Sharing { votes_each: 2, repeat: 0.0 }).expect("opened");
        let site = Site::of(&labelling);
        for (name, high) in [("kim", 5), ("lee", 4)] {
            for _ in 0..4 {
                let is_good = site.shown(name)["answers"] == json!(["good"]);
                let vote = match (scale, is_good) {
                    (2, true) => json!("good"),
                    (2, false) => json!("bad"),
                    (_, true) => json!(high),
                    (_, false) => json!(6 - high),
                };
                site.vote(name, vote);
            }
            for other in [json!("a"), json!("tie"), json!(0), json!(6), json!("undo")] {
                let body = json!({"name": "max", "item": desk.votes()[0]["item"], "repeat": false, "vote": other, "seconds": 1});
                assert_eq!(site.post("/api/vote", &body.to_string()).0, 400, "{other}");
            }
        }
        let made = desk.rows(&labelling);
        let rated = read_rated(&desk.path("prefs.jsonl").into()).expect("rated");
        assert_eq!(rated.len(), 4);
        assert!(rated.iter().all(|row| row.good == (row.completion.content == "good")));
        if scale == 5 {
            assert_eq!((&made[0]["rating"], &made[2]["rating"]), (&json!(4.5), &json!(1.5)));
            let alpha = labelling.agreement().alpha.expect("defined").value;
            // D_o = 1; values 5, 4, 5, 4, 1, 2, 1, 2: D_e = 2(8 · 92 − 24²)/56 = 40/7.
            assert!((alpha - (1.0 - 7.0 / 40.0)).abs() < 1e-12, "{alpha}");
        } else {
            assert_eq!(made[0]["meta"]["votes"], json!({"good": 2, "bad": 0}));
        }
        assert_eq!(made[3]["meta"]["origin"], json!({"step": 3, "reward": 0.5}));
    }
}

#[test]
fn strength_is_the_margin() {
    let desk = Desk::new(&good_and_bad(1));
    let labelling = desk.open(Wanted::default(), Sharing { votes_each: 3, repeat: 0.0 }).expect("opened");
    let site = Site::of(&labelling);
    for (name, text, strength) in [("kim", "good", Some(3)), ("lee", "good", None), ("max", "bad", Some(2))] {
        let shown = site.shown(name);
        let first = shown["answers"][0].as_str().is_some_and(|answer| answer.starts_with(text));
        let mut ballot = site.ballot(name, json!(if first { "a" } else { "b" }));
        ballot["strength"] = json!(strength);
        assert_eq!(site.post("/api/vote", &ballot.to_string()).0, 200);
    }
    let rows = desk.rows(&labelling);
    // (3 + 1 − 2) / 3
    assert!((rows[0]["margin"].as_f64().expect("a margin") - 2.0 / 3.0).abs() < 1e-12);
    assert!((rows[0]["meta"]["agreement"].as_f64().expect("a share") - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(rows[0]["meta"]["annotators"], json!(["kim", "lee", "max"]));
}

#[test]
fn rows_may_be_added_and_moved_and_votes_still_count() {
    let desk = Desk::new(&good_and_bad(4));
    {
        let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
        let site = Site::of(&labelling);
        for _ in 0..4 {
            site.prefer("kim", "good");
        }
    }
    let other = Desk::new(&[]);
    fs::copy(desk.path("prefs.votes.jsonl"), other.path("prefs.votes.jsonl")).expect("copied");
    let mut rows: Vec<Value> = good_and_bad(6).into_iter().rev().collect();
    rows.pop(); // question 0 has gone
    let lines = rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    fs::write(other.path("rows.jsonl"), lines).expect("written");
    let labelling = other.open(Wanted::default(), SHARING).expect("opened");
    let progress = labelling.progress();
    assert_eq!((progress.items, progress.votes, progress.elsewhere), (5, 3, 1));
    assert_eq!(labelling.derive().expect("derived").rows, 3);
    assert_eq!(other.votes().len(), 4, "nothing is lost");
}

#[test]
fn only_this_page_can_vote() {
    let desk = Desk::new(&good_and_bad(2));
    let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
    let site = Site::of(&labelling);
    let ballot = site.ballot("kim", json!("a")).to_string();
    let own = format!("Origin: http://{}\r\n", site.address);
    let json_type = "Content-Type: application/json\r\n";
    for (headers, status) in [
        (json_type.to_owned(), 403),
        (format!("Origin: http://evil.example\r\n{json_type}"), 403),
        (format!("Origin: null\r\n{json_type}"), 403),
        (format!("{own}{own}{json_type}"), 403),
        (format!("Origin: https://{}\r\n{json_type}", site.address), 403),
        (format!("{own}Content-Type: text/plain\r\n"), 415),
        (format!("{own}Content-Type: application/x-www-form-urlencoded\r\n"), 415),
        (own.clone(), 415),
    ] {
        for target in ["/api/vote", "/api/undo"] {
            assert_eq!(site.post_with(target, &headers, &ballot).0, status, "{headers}");
        }
    }
    let host = format!(
        "POST /api/vote HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n{json_type}Content-Length: {}\r\n\r\n{ballot}",
        ballot.len()
    );
    assert_eq!(site.raw(host.as_bytes()).0, 403);
    assert_eq!(site.get("/api/vote").0, 405);
    assert!(desk.votes().is_empty());
    let page = site.raw(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", site.address).as_bytes());
    assert!(page.0 == 200 && page.1.contains("<title>Koan"));
}

#[test]
fn bodies_names_and_ids_are_bounded_and_checked() {
    let desk = Desk::new(&good_and_bad(2));
    let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
    let site = Site::of(&labelling);
    let ballot = site.ballot("kim", json!("a"));
    let with = |key: &str, value: Value| {
        let mut changed = ballot.clone();
        changed[key] = value;
        changed.to_string()
    };
    for (body, status) in [
        (with("item", json!("../../etc/passwd")), 404),
        (with("item", json!("")), 404),
        (with("item", json!("0000000000000000")), 404),
        (with("item", json!(7)), 400),
        (with("name", json!("")), 400),
        (with("name", json!("   ")), 400),
        (with("name", json!("a\nb")), 400),
        (with("name", json!("n".repeat(41))), 400),
        (with("repeat", json!(true)), 409),
        (with("vote", json!("good")), 400),
        (with("vote", json!("undo")), 400),
        (with("vote", json!(3)), 400),
        (with("vote", Value::Null), 400),
        (with("strength", json!(4)), 400),
        (with("strength", json!(0)), 400),
        (with("seconds", json!(-1)), 400),
        (with("seconds", Value::Null), 400),
        (with("comment", json!("c".repeat(4001))), 400),
        (with("more", json!(1)), 400),
        ("not JSON".into(), 400),
        ("[".repeat(20_000), 400),
        (with("comment", json!("c".repeat(40_000))), 413),
    ] {
        let (answered, answer) = site.post("/api/vote", &body);
        assert_eq!(answered, status, "{}: {answer}", body.chars().take(200).collect::<String>());
    }
    for target in [
        "/api/standing",
        "/api/standing?name=",
        "/api/standing?name=a&name=b",
        "/api/standing?name=a&more=1",
        "/api/standing?name=%00",
        "/api/item?name=a",
        "/api/item?name=a&item=x",
    ] {
        assert_eq!(site.get(target).0, 400, "{target}");
    }
    assert_eq!(site.get("/api/item?name=a&item=x&repeat=false").0, 404);
    for path in ["/rows.jsonl", "/prefs.votes.jsonl", "/../rows.jsonl", "/api/votes", "/api"] {
        assert_eq!(site.get(path).0, 404, "{path}");
    }
    assert!(desk.votes().is_empty());
    let long = with("comment", json!("c".repeat(4000)));
    assert_eq!(site.post("/api/vote", &long).0, 200);
    let huge = with("seconds", json!(1e300));
    assert_eq!(site.post("/api/vote", &huge).0, 409, "it is voted on");
}

#[test]
fn an_answer_of_ten_megabytes_is_served_whole() {
    let long = "x".repeat(10 << 20);
    let desk = Desk::new(&[json!({"prompt": "p", "a": long, "b": "</script><script>alert(1)</script>"})]);
    let labelling = desk.open(Wanted::default(), SHARING).expect("opened");
    let site = Site::of(&labelling);
    let shown = site.shown("kim");
    let lengths: Vec<usize> = (0..2).filter_map(|i| shown["answers"][i].as_str().map(str::len)).collect();
    assert_eq!((lengths.iter().max(), lengths.len()), (Some(&long.len()), 2));
    site.vote("kim", "a");
    assert_eq!(labelling.derive().expect("derived").rows, 1);
}
