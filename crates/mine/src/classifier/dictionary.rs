//! The words and labels that a classifier knows, with fastText's hashes.

use std::collections::HashMap;

/// The word that ends each line.
pub(super) const END: &[u8] = b"</s>";
/// What labels begin with.
pub(super) const LABEL: &[u8] = b"__label__";
/// Words that are counted at a time, at most: rare ones are forgotten as fastText forgets them.
const MAX_COUNTED: usize = 8 << 20;

/// A word or label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) word: Box<[u8]>,
    pub(super) count: u64,
}

/// Words, then labels, each by falling count.
#[derive(Clone, Debug)]
pub(super) struct Dictionary {
    pub(super) words: Vec<Entry>,
    pub(super) labels: Vec<Entry>,
    /// Tokens of the training set, those that are no words of the dictionary too.
    pub(super) tokens: u64,
    /// By hash: the number of a word plus one, or zero; a power of two.
    slots: Vec<u32>,
}

/// FNV-1a of 32 bits, over bytes with a sign, as fastText has it.
pub(super) fn hash(token: &[u8]) -> u32 {
    token.iter().fold(2_166_136_261, |hash: u32, &byte| {
        (hash ^ i32::from(byte as i8) as u32).wrapping_mul(16_777_619)
    })
}

impl Dictionary {
    pub(super) fn new(words: Vec<Entry>, labels: Vec<Entry>, tokens: u64) -> Self {
        let mut slots = vec![0; (words.len() * 2 + 2).next_power_of_two()];
        for (word, number) in words.iter().zip(1..) {
            let mut slot = hash(&word.word) as usize & (slots.len() - 1);
            while slots[slot] != 0 {
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = number;
        }
        Self { words, labels, tokens, slots }
    }

    /// The number of a word with this hash.
    #[inline]
    pub(super) fn number(&self, word: &[u8], hash: u32) -> Option<u32> {
        let mut slot = hash as usize & (self.slots.len() - 1);
        loop {
            let number = self.slots[slot].checked_sub(1)?;
            if *self.words[number as usize].word == *word {
                return Some(number);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}

/// Counts the tokens of lines.
#[derive(Default)]
pub(super) struct Counter {
    words: HashMap<Box<[u8]>, u64>,
    labels: HashMap<Box<[u8]>, u64>,
    tokens: u64,
    /// Words that were seen no oftener were forgotten when there were too many.
    forgotten: u64,
}

impl Counter {
    pub(super) fn line(&mut self, line: &[u8]) {
        for token in line.split(|&b| b == b' ').chain([END]).filter(|token| !token.is_empty()) {
            self.tokens += 1;
            let counts = if token.starts_with(LABEL) { &mut self.labels } else { &mut self.words };
            match counts.get_mut(token) {
                Some(count) => *count += 1,
                None => _ = counts.insert(token.into(), 1),
            }
        }
        while self.words.len() > MAX_COUNTED {
            self.forgotten += 1;
            self.words.retain(|_, count| *count > self.forgotten);
        }
    }

    /// Words seen `min_count` times or more, and all labels.
    pub(super) fn finish(self, min_count: u64) -> Dictionary {
        let sorted = |counts: HashMap<Box<[u8]>, u64>, min_count| {
            let mut entries: Vec<Entry> = counts
                .into_iter()
                .filter(|(_, count)| *count >= min_count)
                .map(|(word, count)| Entry { word, count })
                .collect();
            entries.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
            entries
        };
        Dictionary::new(sorted(self.words, min_count), sorted(self.labels, 0), self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_and_found() {
        let mut counter = Counter::default();
        counter.line(b"__label__maths a b a");
        counter.line(b"__label__other a  c");
        let dictionary = counter.finish(2);
        let words: Vec<(&[u8], u64)> = dictionary.words.iter().map(|e| (&*e.word, e.count)).collect();
        assert_eq!(words, [(&b"a"[..], 3), (END, 2)]);
        assert_eq!((dictionary.labels.len(), dictionary.tokens), (2, 9));
        assert_eq!(dictionary.number(b"a", hash(b"a")), Some(0));
        assert_eq!(dictionary.number(b"b", hash(b"b")), None);
    }

    #[test]
    fn hashes_are_those_of_fasttext() {
        // FNV-1a; bytes above 127 are extended with their sign, which the standard function does not do.
        assert_eq!(hash(b""), 2_166_136_261);
        assert_eq!(hash(b"a"), 0xe40c_292c);
        assert_ne!(hash("é".as_bytes()), 0x1b_1d27);
    }
}
