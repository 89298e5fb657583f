//! A small world in which some replies are liked better than others: requests, replies of many habits, and the rule that says
//! what people like. People err: a share of their labels is wrong. The rule stands in for them, so that what is learned can be
//! held against what was meant.
//!
//! ```text
//! where is the red cup?
//! hello. well let me think. the red cup is in the hall. glad to help.
//! ```

use std::{fs, path::Path};

use koan_files::write_synced;
use koan_model::Config;
use serde_json::{Map, Value, json};

const COLOURS: [&str; 6] = ["red", "blue", "green", "white", "black", "brown"];
const THINGS: [&str; 8] = ["cup", "book", "lamp", "coat", "key", "bag", "hat", "ball"];
const PLACES: [&str; 6] = ["hall", "kitchen", "garden", "attic", "office", "yard"];
/// Begins a reply, and is neither liked nor disliked.
const GREETING: &str = "hello.";
/// Says nothing; each is disliked a little.
const FILLERS: [&str; 3] = ["well let me think.", "that is a good question.", "many people ask me this."];
/// Liked once.
const CLOSING: &str = "glad to help.";
/// Disliked.
const RUDE: &str = "find it yourself.";
/// The least difference by the rule of two replies that people are asked to compare.
const CLEAR: f64 = 0.5;

/// Random numbers of stream `seed`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64, as a share of 1.
    pub(crate) fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[(self.share() * of.len() as f64) as usize]
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    colour: &'static str,
    thing: &'static str,
}

impl Request {
    pub(crate) fn draw(random: &mut Random) -> Self {
        Self { colour: random.one(&COLOURS), thing: random.one(&THINGS) }
    }

    pub(crate) fn prompt(&self) -> String {
        format!("where is the {} {}?\n", self.colour, self.thing)
    }

    /// The request of a prompt.
    pub(crate) fn of(prompt: &str) -> Self {
        let one = |of: &[&'static str]| {
            *of.iter().find(|word| prompt.contains(**word)).expect("a prompt of this world")
        };
        Self { colour: one(&COLOURS), thing: one(&THINGS) }
    }

    /// Whether a reply that is liked so much is preferred to the plain one, which only answers; a half if they are alike.
    pub(crate) fn preferred(&self, liked: f64) -> f64 {
        let plain = self.liked(&format!("the {} {} is in the hall.", self.colour, self.thing));
        match liked.total_cmp(&plain) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        }
    }

    fn answer(&self, random: &mut Random) -> String {
        format!("the {} {} is in the {}.", self.colour, self.thing, random.one(&PLACES))
    }

    /// A reply, as people of this world write them.
    pub(crate) fn reply(&self, random: &mut Random) -> String {
        let mut said = Vec::new();
        let happens = |share: f64, random: &mut Random| random.share() < share;
        if happens(0.3, random) {
            said.push(GREETING.to_owned());
        }
        for filler in FILLERS {
            if happens(0.2, random) {
                said.push(filler.to_owned());
            }
        }
        if happens(0.9, random) {
            let other = Self::draw(random);
            let about = if happens(0.65, random) { self } else { &other };
            said.push(about.answer(random));
        }
        if happens(0.3, random) {
            said.push(RUDE.to_owned());
        }
        if happens(0.35, random) || said.is_empty() {
            said.push(CLOSING.to_owned());
        }
        if happens(0.08, random) {
            said.push(said[said.len() - 1].clone());
        }
        said.join(" ")
    }

    /// How much a reply is liked: 3 for naming what was asked for, 1 for a friendly end, −2 for rudeness, −½ for each filler, −1
    /// for each sentence said again, and −1 for what is no sentence of this world.
    pub(crate) fn liked(&self, reply: &str) -> f64 {
        let sentences: Vec<&str> = reply.split_inclusive('.').map(str::trim).collect();
        let about = format!("the {} {} is in the ", self.colour, self.thing);
        let mut liked = 0.0;
        for (i, sentence) in sentences.iter().enumerate() {
            liked += if sentences[..i].contains(sentence) {
                -1.0
            } else if sentence.starts_with(&about) {
                3.0
            } else if *sentence == CLOSING {
                1.0
            } else if *sentence == RUDE {
                -2.0
            } else if FILLERS.contains(sentence) {
                -0.5
            } else if *sentence == GREETING || is_answer(sentence) {
                0.0
            } else {
                -1.0
            };
        }
        liked
    }
}

fn is_answer(sentence: &str) -> bool {
    sentence.starts_with("the ") && sentence.contains(" is in the ")
}

/// Two replies to a request, the one that is liked better first.
pub(crate) struct Pair {
    pub(crate) request: Request,
    pub(crate) better: String,
    pub(crate) worse: String,
}

impl Pair {
    /// Two replies that the rule clearly tells apart.
    pub(crate) fn draw(random: &mut Random) -> Self {
        loop {
            let request = Request::draw(random);
            let [a, b] = [request.reply(random), request.reply(random)];
            let difference = request.liked(&a) - request.liked(&b);
            if difference.abs() >= CLEAR {
                let (better, worse) = if difference > 0.0 { (a, b) } else { (b, a) };
                return Self { request, better, worse };
            }
        }
    }
}

/// How much of everything.
pub(crate) struct Sizes {
    pub(crate) texts: usize,
    pub(crate) pairs: usize,
    pub(crate) held_out: usize,
    /// Share of labels that are wrong.
    pub(crate) noise: f64,
}

/// Two thousand pairs, one label in ten wrong.
pub(crate) const FULL: Sizes = Sizes { texts: 20_000, pairs: 2_000, held_out: 500, noise: 0.1 };

/// Writes `fresh/`, `text.jsonl`, `pairs.jsonl`, `held-out.jsonl` (pairs without wrong labels) and `requests.jsonl` into `dir`;
/// the share of held-out pairs whose longer reply is the better one.
pub(crate) fn write(dir: &Path, sizes: &Sizes) -> f64 {
    let random = |stream: u64| Random::new(stream << 40);
    let put = |name: &str, rows: Vec<Value>| {
        koan_files::jsonl::write(&dir.join(name), rows).expect("written");
    };
    let text = |random: &mut Random| {
        let request = Request::draw(random);
        json!({"text": format!("{}{}", request.prompt(), request.reply(random))})
    };
    let (mut texts, mut labels, mut held_out, mut asked) = (random(1), random(2), random(3), random(4));
    put("text.jsonl", (0..sizes.texts).map(|_| text(&mut texts)).collect());
    let row = |pair: &Pair, flipped: bool| {
        let (chosen, rejected) =
            if flipped { (&pair.worse, &pair.better) } else { (&pair.better, &pair.worse) };
        json!({"prompt": pair.request.prompt(), "chosen": chosen, "rejected": rejected})
    };
    let labelled = (0..sizes.pairs).map(|_| {
        let pair = Pair::draw(&mut labels);
        row(&pair, labels.share() < sizes.noise)
    });
    put("pairs.jsonl", labelled.collect());
    let clean: Vec<Pair> = (0..sizes.held_out).map(|_| Pair::draw(&mut held_out)).collect();
    put("held-out.jsonl", clean.iter().map(|pair| row(pair, false)).collect());
    let request = |i: usize| json!({"id": format!("{i}"), "prompt": Request::draw(&mut asked).prompt()});
    put("requests.jsonl", (0..200).map(request).collect());
    write_model(dir);
    let longer = clean.iter().map(|pair| match pair.better.len().cmp(&pair.worse.len()) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    });
    longer.sum::<f64>() / clean.len() as f64
}

/// A Llama of 0.13 million parameters that knows the words of this world, with random weights.
fn write_model(dir: &Path) {
    let sentences =
        [&FILLERS[..], &[GREETING, CLOSING, RUDE, "where is the is in the ?\n"]].concat().join(" ");
    let mut words: Vec<String> = ["<|end|>", "<|unknown|>"].map(str::to_owned).to_vec();
    let all = sentences.split([' ', '.']).chain(COLOURS).chain(THINGS).chain(PLACES);
    for word in all.filter(|w| w.chars().all(char::is_alphabetic) && !w.is_empty()) {
        for word in [word.to_owned(), format!(" {word}")] {
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words.extend([".", "?", "\n", " "].map(str::to_owned));
    let vocabulary: Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": vocabulary.len(), "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "initializer_range": 0.08,
        "bos_token_id": 0, "eos_token_id": 0,
    });
    assert!(Config::from_json(config.as_object().expect("an object").clone(), dir).is_ok());
    let special = |id: usize| {
        json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let begin = json!({"SpecialToken": {"id": words[0], "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(0), special(1)],
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, text("A")], "pair": [begin, text("A"), text("B")],
            "special_tokens": {&words[0]: {"id": words[0], "ids": [0], "tokens": [words[0]]}},
        },
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": " ?[a-z]+|[\\s\\S]"}, "behavior": "Isolated",
                          "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": words[1]},
    });
    let parts = dir.join("parts");
    fs::create_dir_all(&parts).expect("a directory");
    for (name, value) in [
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", json!({"eos_token": words[0], "unk_token": words[1]})),
    ] {
        write_synced(&parts.join(name), value.to_string().as_bytes()).expect("written");
    }
    koan_model::init(&parts.join("config.json"), 1, Some(&parts), &dir.join("fresh"), &mut |_, _| {})
        .expect("a model");
}
