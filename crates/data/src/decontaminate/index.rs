//! What texts are held against: the n-grams of test items.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
};

use super::{
    short::{is_particular, stands_alone},
    words::{Word, join_operators, words},
};

/// The fewest words of an item that is looked for inside of texts; shorter ones only match a text that is nothing else.
pub const SHORT: usize = 3;
/// Bits of the filter in front of the tables, a power of two: 1 MiB, so that it stays in a core's cache.
const FILTER_BITS: usize = 1 << 23;

/// Where a text and a test item agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The item's number, in the order in which items were added.
    pub item: usize,
    /// Bytes of the text.
    pub range: Range<usize>,
}

/// N-grams of test items.
pub struct Index {
    n: usize,
    /// Hashes of the words of each item.
    items: Vec<Vec<u64>>,
    /// Windows of n words: their first occurrences, as item and first word.
    long: Table<(u32, u32)>,
    /// By the first [`SHORT`] words: items of fewer than n words, and whether they are particular; others must stand alone.
    short: Table<Vec<(u32, bool)>>,
    common: usize,
    /// Items of fewer than [`SHORT`] words, by the hash of all.
    tiny: Table<Vec<u32>>,
    filter: Vec<u64>,
}

type Table<T> = HashMap<u64, T, BuildHasherDefault<Given>>;

impl Index {
    /// For windows of `n` words.
    ///
    /// # Panics
    /// If `n` is not above [`SHORT`].
    pub fn new(n: usize) -> Self {
        assert!(n > SHORT, "windows of {n} words");
        let (long, short, tiny) = (Table::default(), Table::default(), Table::default());
        Self { n, items: Vec::new(), long, short, common: 0, tiny, filter: vec![0; FILTER_BITS / 64] }
    }

    /// Adds an item. An item without words matches nothing.
    pub fn add(&mut self, text: &str) {
        let mut found = Vec::new();
        words(text, &mut found);
        let particular = is_particular(text, &found);
        join_operators(text, &mut found);
        // The equals sign before an answer that is left out: a text may have it.
        while found.len() > SHORT && found.last().is_some_and(|word| word.is_operator) {
            found.pop();
        }
        let item = self.items.len() as u32;
        let hashes: Vec<u64> = found.iter().map(|w| w.hash).collect();
        if hashes.len() >= self.n {
            for (window, first) in windows(&hashes, self.n).zip(0..) {
                self.long.entry(window).or_insert((item, first));
                self.mark(window);
            }
        } else if hashes.len() >= SHORT {
            let window = of_window(&hashes[..SHORT]);
            self.short.entry(window).or_default().push((item, particular));
            self.common += usize::from(!particular);
            self.mark(window);
        } else if !hashes.is_empty() {
            self.tiny.entry(of_window(&hashes)).or_default().push(item);
        }
        self.items.push(hashes);
    }

    /// Items so far.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Short items that any text may have, and that count only where they stand alone.
    pub fn common(&self) -> usize {
        self.common
    }

    /// Hands `each` all places of `text` that an item agrees with, in the order of their last words, until it says false. Says how many
    /// places were passed over because a short item that any text may have does not stand alone there. `scratch` is memory to work in.
    pub fn find(&self, text: &str, scratch: &mut Vec<Word>, mut each: impl FnMut(Match) -> bool) -> usize {
        let mut spared = 0;
        scratch.clear();
        words(text, scratch);
        join_operators(text, scratch);
        let found = &scratch[..];
        let range =
            |words: Range<usize>| found[words.start].start as usize..found[words.end - 1].end as usize;
        let agrees = |item: u32, first: usize, at: usize, length: usize| {
            let wanted = &self.items[item as usize][first..][..length];
            found[at..].len() >= length && wanted.iter().zip(&found[at..]).all(|(a, b)| *a == b.hash)
        };
        if found.len() < SHORT && !found.is_empty() {
            let hashes: Vec<u64> = found.iter().map(|w| w.hash).collect();
            for &item in self.tiny.get(&of_window(&hashes)).into_iter().flatten() {
                let whole = self.items[item as usize].len() == found.len();
                if whole
                    && agrees(item, 0, 0, found.len())
                    && !each(Match { item: item as usize, range: range(0..found.len()) })
                {
                    return spared;
                }
            }
        }
        let [mut long, mut short] = [Rolling::new(self.n), Rolling::new(SHORT)];
        for (i, word) in found.iter().enumerate() {
            let leaving = |n: usize| i.checked_sub(n).map(|i| found[i].hash);
            let window = long.push(word.hash, leaving(self.n));
            if i + 1 >= self.n
                && self.may_hold(window)
                && let Some(&(item, first)) = self.long.get(&window)
                && agrees(item, first as usize, i + 1 - self.n, self.n)
                && !each(Match { item: item as usize, range: range(i + 1 - self.n..i + 1) })
            {
                return spared;
            }
            let window = short.push(word.hash, leaving(SHORT));
            if i + 1 >= SHORT
                && self.may_hold(window)
                && let Some(items) = self.short.get(&window)
            {
                for &(item, particular) in items {
                    let (at, length) = (i + 1 - SHORT, self.items[item as usize].len());
                    if !agrees(item, 0, at, length) {
                        continue;
                    }
                    if !particular && !stands_alone(text, found, at..at + length) {
                        spared += 1;
                    } else if !each(Match { item: item as usize, range: range(at..at + length) }) {
                        return spared;
                    }
                }
            }
        }
        spared
    }

    fn mark(&mut self, window: u64) {
        let bit = window as usize % FILTER_BITS;
        self.filter[bit / 64] |= 1 << (bit % 64);
    }

    fn may_hold(&self, window: u64) -> bool {
        let bit = window as usize % FILTER_BITS;
        self.filter[bit / 64] >> (bit % 64) & 1 == 1
    }
}

/// The hash of a window that moves on word by word: `Σᵢ hᵢ Bⁿ⁻¹⁻ⁱ`, and then mixed.
struct Rolling {
    sum: u64,
    /// Bⁿ
    leaves: u64,
}

const BASE: u64 = 0xd6e8_feb8_6659_fd93;

impl Rolling {
    fn new(n: usize) -> Self {
        Self { sum: 0, leaves: (0..n).fold(1u64, |power, _| power.wrapping_mul(BASE)) }
    }

    /// The hash with this word, and without the one that leaves the window, if one does.
    fn push(&mut self, word: u64, leaving: Option<u64>) -> u64 {
        self.sum = self.sum.wrapping_mul(BASE).wrapping_add(word);
        if let Some(leaving) = leaving {
            self.sum = self.sum.wrapping_sub(leaving.wrapping_mul(self.leaves));
        }
        let mixed = (self.sum ^ (self.sum >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    }
}

fn windows(hashes: &[u64], n: usize) -> impl Iterator<Item = u64> {
    let mut rolling = Rolling::new(n);
    let push = move |i: usize| rolling.push(hashes[i], i.checked_sub(n).map(|i| hashes[i]));
    (0..hashes.len()).map(push).skip(n - 1)
}

fn of_window(hashes: &[u64]) -> u64 {
    let mut rolling = Rolling::new(hashes.len());
    hashes.iter().map(|&hash| rolling.push(hash, None)).last().unwrap_or_default()
}

/// Keys are hashes already.
#[derive(Default)]
struct Given(u64);

impl Hasher for Given {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(BASE));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::short::BESIDES, *};

    fn index(n: usize, items: &[&str]) -> Index {
        let mut index = Index::new(n);
        for item in items {
            index.add(item);
        }
        index
    }

    fn found(index: &Index, text: &str) -> Vec<usize> {
        let mut items = Vec::new();
        index.find(text, &mut Vec::new(), |found| {
            assert!(text.get(found.range).is_some());
            items.push(found.item);
            true
        });
        items
    }

    #[test]
    fn windows_of_long_items_and_whole_short_ones_are_found() {
        let long = "Natalia sold clips to 48 of her friends in April, and then half as many in May.";
        let index = index(10, &[long, "Solve 2x+3=7.", "Yes", "x"]);
        assert_eq!(found(&index, "he said: sold clips to 48 of her friends in April, and went"), [0]);
        assert!(found(&index, "sold clips to 49 of her friends in April, and then half").is_empty());
        assert_eq!(found(&index, "Please solve $2x + 3 = 7$ now"), [1]);
        assert!(found(&index, "Please solve 2x+3=9 now").is_empty());
        assert!(found(&index, "Solve 2x+3=71").is_empty(), "another number");
        assert_eq!((found(&index, "yes!"), found(&index, "yes it is")), (vec![2], vec![]));
        assert!(found(&index, "").is_empty());
    }

    #[test]
    fn an_operator_is_no_word_of_its_own() {
        let index = index(
            10,
            &[
                "If $j$, $k$, and $l$ are positive with $jk=24$, find it.",
                "What is 12 × 7 = ?",
                "Compute 3 + 4 =",
                "x=5",
            ],
        );
        assert!(
            found(&index, "If $j$, $k$, and $l$ are positive with $jk=30$, go on.").is_empty(),
            "nine words and a sign"
        );
        assert_eq!(found(&index, "If $j$, $k$, and $l$ are positive with $jk = 24$, go on."), [0]);
        for text in ["what is 12*7 = ? I ask", "What is $12 \\times 7 = 84$, say", "what is 12 × 7?"] {
            assert_eq!(found(&index, text), [1], "{text}");
        }
        assert!(
            found(&index, "what is 12 + 7 = ?").is_empty() && found(&index, "what is 12 × 75?").is_empty()
        );
        assert_eq!(found(&index, "Now compute 3+4 = 7."), [2]);
        assert!(
            found(&index, "Let x=5 be the root").is_empty(),
            "two words, which say nothing inside of a text"
        );
    }

    #[test]
    fn a_formula_that_is_wrapped_is_the_same() {
        let item = "If (x + 6)(y - 6) = 0, what is the smallest possible value of x^2 + y^2";
        let index = index(10, &[item]);
        let whole = found(&index, item).len();
        assert!(whole > 5);
        let wrapped =
            "If (\nx + 6 ) ( y\n- 6 ) =\n0 , what\nis the\nsmallest possible value of x ^ 2 +\ny\n^ 2";
        assert_eq!(found(&index, wrapped).len(), whole);
    }

    #[test]
    fn a_search_ends_when_it_is_told() {
        let index = index(4, &["a b c d e f g h"]);
        assert_eq!(found(&index, "a b c d e f g h").len(), 5);
        let mut n = 0;
        index.find("a b c d e f g h", &mut Vec::new(), |_| {
            n += 1;
            false
        });
        assert_eq!(n, 1);
    }

    #[test]
    fn what_any_text_may_have_counts_where_it_stands_alone() {
        let index =
            index(10, &["√ ( 21 ) ^ 2", "Solve for x.", "x^2 + y^2 = 1", "Simplify √72", "None of these"]);
        assert_eq!(index.common(), 4);
        for (text, items) in [
            ("We know that $(\\sqrt{21})^2 = 21$ holds.", &[][..]),
            ("(\\sqrt{21})^2", &[0]),
            ("Exercises\n\n3. $(\\sqrt{21})^2$\n\n4. $2^5$", &[0]),
            ("- $√(21)^2$ = 21\n- more", &[0]),
            ("The circle is\n\n$$x^2 + y^2 = 1$$\n\nof radius 1.", &[]),
            ("$$x^2 + y^2 = 1$$", &[2]),
            ("Here x^2 + y^2 = 1 is the circle.", &[]),
            ("Now solve for x and go on.\n\nThen simplify √72 as before.", &[3]),
            ("Solve for x.\nThen go on with what follows.", &[1]),
            ("A: 5\nB: none of these", &[4]),
            ("There are none of these in the wild.", &[]),
        ] {
            assert_eq!(found(&index, text), items, "{text}");
        }
        let spared = index.find("Now solve for x, and solve for x again.", &mut Vec::new(), |_| true);
        assert_eq!(spared, 2);
    }

    proptest::proptest! {
        /// What is found is what comparing all windows finds.
        #[test]
        fn as_by_comparison(items in proptest::collection::vec("[ab ]{0,14}", 0..5), text in "[ab ]{0,40}", n in 4usize..6) {
            let index = index(n, &items.iter().map(String::as_str).collect::<Vec<_>>());
            let split = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
            let text_words = split(&text);
            let wanted = items.iter().any(|item| {
                let words = split(item);
                if words.len() >= n {
                    words.windows(n).any(|window| text_words.windows(n).any(|other| other == window))
                } else if words.len() >= SHORT {
                    let letters = words.iter().filter(|word| word.len() == 1).count();
                    let particular = words.len() >= letters + 5 || words.len() > letters && letters >= 4;
                    let alone = text_words.len() <= words.len() + BESIDES;
                    (particular || alone) && text_words.windows(words.len()).any(|other| other == words)
                } else {
                    !words.is_empty() && text_words == words
                }
            });
            proptest::prop_assert_eq!(!found(&index, &text).is_empty(), wanted);
        }
    }
}
