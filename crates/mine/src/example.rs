//! A small made-up crawl, to try the commands on: pages of mathematics, with formulas and without, among shops and news.
//!
//! There are two worlds, which share neither sentences nor sites nor ways of writing formulas into HTML: what a classifier learns in one
//! shows in the other whether it learnt mathematics or a site.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use koan_files::{FilesError, NewFile, jsonl};
use serde_json::{Value, json};

use crate::MineError;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// The world, 0 or 1.
    pub world: usize,
    /// Pages of the crawl.
    pub pages: usize,
    /// From which all is derived.
    pub seed: u64,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The crawl.
    pub warc: PathBuf,
    /// Texts of mathematics with formulas, which are in no page of the crawl: a seed of positives.
    pub seed: PathBuf,
    /// Texts of mathematics that are neither there: what a model is measured by.
    pub held_out: PathBuf,
    /// Of each page its URL and whether it is mathematics.
    pub truth: PathBuf,
}

/// `{F}` is a formula, `{N}` a number, `{T}` a thing, `{A}` what it is like, `{P}` a place.
struct World {
    maths: &'static [&'static str],
    /// Mathematics without a formula.
    prose: &'static [&'static str],
    other: &'static [&'static str],
    things: &'static [&'static str],
    adjectives: &'static [&'static str],
    places: &'static [&'static str],
    formulas: &'static [&'static str],
    sites: &'static [Site],
    /// The page around a title and its paragraphs.
    frame: fn(&str, &str) -> String,
    formula: fn(&str) -> String,
}

struct Site {
    host: &'static str,
    /// Of a hundred pages, how many are mathematics, and how many of those have no formula.
    maths: u64,
    prose: u64,
    /// Directories of mathematics and of all else.
    folders: [&'static str; 2],
}

const fn site(host: &'static str, maths: u64, prose: u64, folders: [&'static str; 2]) -> Site {
    Site { host, maths, prose, folders }
}

static WORLDS: [World; 2] = [
    World {
        maths: &[
            "Since {F}, the {T} has two real roots, as exercise {N} asks.",
            "Expanding the brackets gives {F}, a {A} identity.",
            "By induction on the degree, {F} holds for every {T}.",
            "The derivative vanishes where {F}, so the {T} is a minimum.",
            "We prove the lemma: if {F}, then the {T} is {A}.",
            "Integrating by parts yields {F} on the whole interval.",
            "Substitute {F} into the equation and compare coefficients.",
            "This contradicts the theorem, for the {T} was {A} and {F}.",
            "The determinant is nonzero, hence {F} and the matrix is invertible.",
            "Problem {N}: find all integers for which {F} and the {T} is {A}.",
        ],
        prose: &[
            "A proof by contradiction assumes the opposite of the theorem and derives something impossible.",
            "The sum of the angles of any {A} triangle is two right angles, as Euclid proved.",
            "An integer is prime when no smaller integer but one divides it, and there are infinitely many primes.",
            "The equation has no solution among the integers, though it has one among the rationals.",
            "To find the average of {N} numbers, divide their sum by how many there are.",
            "Each {T} of the sequence is the sum of the two before it, a recurrence with a {A} solution.",
        ],
        other: &[
            "The {A} kettle ships from {P} within {N} days and costs ${N} with a spare lid.",
            "Residents of {P} asked the mayor about the new ferry, which closes for {N} weeks.",
            "We left {P} before sunrise and walked {N} kilometres along the harbour.",
            "Add {N} grams of flour, stir until {A}, and bake until golden.",
            "The team from {P} won the match after a {A} second half in front of {N} fans.",
            "Customers gave this {A} tent {N} points and praised its zip.",
            "Set the variable $HOME and restart the server with option {N}.",
            "Police in {P} are looking for a {A} driver who left the scene.",
            "Was $40, now $25 to $30: every {A} lamp in our shop in {P}.",
            "The museum opens at nine, and entry is free for {N} pupils.",
        ],
        things: &[
            "polynomial",
            "sequence",
            "remainder",
            "function",
            "bound",
            "coefficient",
            "vertex",
            "residue",
        ],
        adjectives: &["simple", "plain", "careful", "strong", "quiet", "old", "gentle", "bright"],
        places: &["Northfield", "Redport", "Ashbury", "Millhaven", "Eastcombe"],
        formulas: &[
            "x^2 - {N}x + {N} = 0",
            "a_n = \\frac{{N}}{n+{N}}",
            "\\int_0^{N} x^2 \\, dx",
            "\\sum_{k=1}^{n} k = \\frac{n(n+1)}{2}",
            "b \\equiv {N} \\pmod{7}",
            "f'(x) \\le {N}",
        ],
        sites: &[
            site("forum.lemmas.example", 100, 0, ["t", "x"]),
            site("www.lectures.example.edu", 50, 60, ["maths", "office"]),
            site("answers.example.net", 16, 40, ["maths", "life"]),
            site("puzzles.example.org", 60, 80, ["numbers", "visit"]),
            site("shop.example.com", 0, 0, ["m", "item"]),
            site("news.example.info", 2, 0, ["science", "local"]),
            site("blog.example.io", 0, 0, ["m", "2020"]),
            site("docs.example.dev", 0, 0, ["m", "manual"]),
        ],
        frame: |title, body| {
            format!(
                "<!doctype html><html><head><title>{title}</title><script src=\"/MathJax.js\"></script></head><body>\
                 <div class=\"nav\"><a href=\"/\">Home</a> <a href=\"/a\">Archive</a></div><article><h1>{title}</h1>{body}\
                 </article><div class=\"footer\">All rights reserved</div></body></html>"
            )
        },
        formula: |tex| format!("\\({}\\)", escaped(tex)),
    },
    World {
        maths: &[
            "A {A} map sends open sets to open sets, whence {F} for the quotient.",
            "Consider a {T} with {F} and colour its edges greedily.",
            "It suffices to treat the {A} case, because {F} whenever the {T} embeds.",
            "The estimator satisfies {F} and its variance is that of a {A} {T}.",
            "Pick a basis of the {T}; then {F} and the claim follows.",
            "By the pigeonhole principle two of {N} points agree, so {F}.",
            "How do I show that this {T} is {A}? I know that {F}.",
            "Every bounded sequence has a convergent subsequence, so {F} at the limit.",
        ],
        prose: &[
            "Counting handshakes at a party of {N} guests is counting pairs, a classic of combinatorics.",
            "Two infinite sets have the same size when their elements can be matched, so even numbers are as many as all.",
            "Were the root of two a fraction in lowest terms, both its halves would be even: a contradiction.",
            "Every {A} graph drawn in the plane can be coloured with four colours, a theorem that took a century to prove.",
        ],
        other: &[
            "Whisk the butter with {N} spoons of sugar and fold in the berries.",
            "The hatchback does {N} kilometres on a charge and feels {A} in corners.",
            "Applications reach the office in {P} by the {N}th of the month, with a fee of ${N}.",
            "Shares of the {P} bank rose {N} percent after {A} results.",
            "Take the tablets with food and call a doctor if the rash spreads.",
            "Our café in {P} roasts beans daily; from $5 to $9 a bag.",
            "The coach blamed the {A} pitch in {P}, where {N} supporters waited.",
            "Run the installer, export PATH=$HOME/bin:$PATH and open port {N}.",
        ],
        things: &["space", "group", "kernel", "lattice", "operator", "tree", "manifold", "norm"],
        adjectives: &["compact", "clean", "narrow", "steady", "cyclic", "planar", "fresh", "modest"],
        places: &["Tartu", "Porto", "Lviv", "Quito", "Kyoto"],
        formulas: &[
            "\\|u\\| \\le {N}",
            "\\chi(G) \\ge {N}",
            "\\ker \\phi = \\{0\\}",
            "\\lim_{n\\to\\infty} s_n = {N}",
            "P(X > {N}) < \\varepsilon",
            "V \\cong \\mathbb{Z}/{N}\\mathbb{Z}",
        ],
        sites: &[
            site("topology.example.fr", 100, 10, ["cours", "x"]),
            site("mixed.example.de", 30, 30, ["skript", "verein"]),
            site("koch.example.at", 0, 0, ["m", "rezepte"]),
            site("autos.example.ch", 0, 0, ["m", "tests"]),
            site("amt.example.gov", 0, 0, ["m", "forms"]),
        ],
        frame: |title, body| {
            format!(
                "<html><head><meta charset=utf-8><title>{title}</title></head><body><ul class=menu><li><a href=/>Start</a><li>\
                 <a href=/k>Contact</a></ul><main><h2>{title}</h2>{body}</main><aside>Subscribe to our letter</aside></body></html>"
            )
        },
        formula: |tex| {
            format!(
                "<math><semantics><mrow><mi>x</mi></mrow><annotation encoding=\"application/x-tex\">{}</annotation></semantics></math>",
                escaped(tex)
            )
        },
    },
];

/// Random numbers.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(x ^ (x >> 31)) * n as u128) >> 64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Formulas,
    Prose,
    Other,
}

impl World {
    /// Paragraphs, with formulas written by `formula`.
    fn paragraphs(&self, rng: &mut Rng, kind: Kind, formula: fn(&str) -> String) -> Vec<String> {
        let sentences = match kind {
            Kind::Formulas => self.maths,
            Kind::Prose => self.prose,
            Kind::Other => self.other,
        };
        let paragraph = |rng: &mut Rng| {
            let count = 2 + rng.below(3);
            (0..count).map(|_| self.fill(rng, sentences, formula)).collect::<Vec<_>>().join(" ")
        };
        (0..3 + rng.below(4)).map(|_| paragraph(rng)).collect()
    }

    fn fill(&self, rng: &mut Rng, sentences: &[&str], formula: fn(&str) -> String) -> String {
        let mut text = rng.of(sentences).to_owned();
        while let Some(at) = text.find("{F}") {
            let mut tex = rng.of(self.formulas).to_owned();
            while tex.contains("{N}") {
                tex = tex.replacen("{N}", &(2 + rng.below(90)).to_string(), 1);
            }
            text.replace_range(at..at + 3, &formula(&tex));
        }
        for (mark, list) in [("{T}", self.things), ("{A}", self.adjectives), ("{P}", self.places)] {
            while text.contains(mark) {
                text = text.replacen(mark, rng.of(list), 1);
            }
        }
        while text.contains("{N}") {
            text = text.replacen("{N}", &(2 + rng.below(990)).to_string(), 1);
        }
        text
    }
}

impl Example {
    /// Writes the crawl and what belongs to it into `folder`.
    ///
    /// # Errors
    /// A world that there is not; if the operating system refuses.
    pub fn write(&self, folder: &Path) -> Result<Made, MineError> {
        let Some(world) = WORLDS.get(self.world) else {
            return Err(MineError::Setting {
                key: "world".into(),
                what: "there are two worlds, 0 and 1".into(),
            });
        };
        fs::create_dir_all(folder).map_err(FilesError::io("create", folder))?;
        let at = |name: &str| folder.join(name);
        let made = Made {
            warc: at("crawl.warc"),
            seed: at("seed.jsonl"),
            held_out: at("held-out.jsonl"),
            truth: at("truth.jsonl"),
        };
        let mut rng = Rng(self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let inline = |tex: &str| format!("${tex}$");
        let mut texts = |count: usize, prose: usize| -> Vec<Value> {
            let kind = |i: usize| if i * 100 < prose * count { Kind::Prose } else { Kind::Formulas };
            (0..count)
                .map(|i| json!({"text": world.paragraphs(&mut rng, kind(i), inline).join("\n\n")}))
                .collect()
        };
        jsonl::write(&made.seed, texts(self.pages.div_ceil(10).max(50), 0))?;
        jsonl::write(&made.held_out, texts(100, 30))?;
        let mut warc = NewFile::create(&made.warc)?;
        let mut truth = Vec::new();
        for page in 0..self.pages {
            let site = &world.sites[page % world.sites.len()];
            let is_maths = (rng.below(100) as u64) < site.maths;
            let kind = match (is_maths, (rng.below(100) as u64) < site.prose) {
                (false, _) => Kind::Other,
                (true, true) => Kind::Prose,
                (true, false) => Kind::Formulas,
            };
            let url = format!("http://{}/{}/{page}", site.host, site.folders[usize::from(!is_maths)]);
            let paragraphs = world.paragraphs(&mut rng, kind, world.formula);
            let body: String =
                paragraphs.iter().map(|text| format!("<p>{text}</p>")).collect::<Vec<_>>().concat();
            let html = (world.frame)(&format!("Page {page}"), &body);
            record(&mut warc, &url, &html).map_err(FilesError::io("write", &made.warc))?;
            truth.push(json!({"url": url, "maths": is_maths, "prose": kind == Kind::Prose}));
        }
        warc.finish()?;
        jsonl::write(&made.truth, truth)?;
        Ok(made)
    }
}

/// A captured page.
fn record(warc: &mut NewFile, url: &str, html: &str) -> std::io::Result<()> {
    let http = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}");
    write!(
        warc,
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: \
         application/http; msgtype=response\r\nContent-Length: {}\r\n\r\n{http}\r\n\r\n",
        http.len()
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classifier::{self, Model, Training, TrainingSet},
        extract::{Hints, Limits, extract},
    };

    /// Text and kind of each of `count` pages.
    fn pages(world: usize, seed: u64, count: usize) -> Vec<(String, Kind)> {
        let world = &WORLDS[world];
        let mut rng = Rng(seed);
        let page = |i: usize| {
            let kind =
                [Kind::Formulas, Kind::Other, Kind::Other, Kind::Other, Kind::Prose, Kind::Formulas][i % 6];
            let body: String = world
                .paragraphs(&mut rng, kind, world.formula)
                .iter()
                .map(|p| format!("<p>{p}</p>"))
                .collect::<Vec<_>>()
                .concat();
            let html = (world.frame)("A page", &body);
            (extract(html.as_bytes(), &Hints::default(), &Limits::default()).expect("a page").text, kind)
        };
        (0..count).map(page).collect()
    }

    #[test]
    fn what_is_learnt_in_one_world_holds_in_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let lines = folder.path().join("lines");
        let mut set = TrainingSet::new(folder.path(), 10_000, 1).expect("begun");
        for (text, kind) in pages(0, 7, 600) {
            if kind != Kind::Prose {
                set.add(if kind == Kind::Other { classifier::OTHER } else { classifier::MATHS }, &text)
                    .expect("added");
            }
        }
        set.finish(&lines).expect("written");
        let training = Training { dim: 16, buckets: 1 << 14, epochs: 10, lr: 0.3, ..Training::default() };
        let classifier = Model::train(&lines, &training).expect("trained").classifier().expect("a label");
        let seed: Vec<f32> = pages(0, 8, 300)
            .iter()
            .filter(|(_, kind)| *kind == Kind::Formulas)
            .map(|(text, _)| classifier.score(text))
            .collect();
        let cut = classifier::cut(&seed);
        for (world, least_precision, least_recall) in [(0, 0.98, 0.98), (1, 0.95, 0.9)] {
            let (mut found, mut kept, mut all) = (0, 0, 0);
            for (text, kind) in pages(world, 9, 600).iter().filter(|(_, kind)| *kind != Kind::Prose) {
                let (is_maths, is_kept) = (*kind != Kind::Other, classifier.score(text) >= cut);
                all += usize::from(is_maths);
                kept += usize::from(is_kept);
                found += usize::from(is_maths && is_kept);
            }
            let (precision, recall) = (found as f64 / kept.max(1) as f64, found as f64 / all as f64);
            assert!(
                precision >= least_precision && recall >= least_recall,
                "world {world}: {precision}, {recall}, cut {cut}"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        let example = Example { world: 1, pages: 40, seed: 3 };
        let read = |name: &str| {
            let made = example.write(&folder.path().join(name)).expect("written");
            [made.warc, made.seed, made.held_out, made.truth].map(|path| fs::read(path).expect("read"))
        };
        assert!(read("a") == read("b"));
        let none = Example { world: 2, ..example };
        assert!(none.write(folder.path()).expect_err("no such world").to_string().contains("two worlds"));
    }
}
