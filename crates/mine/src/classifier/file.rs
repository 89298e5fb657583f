//! Facebook's file format of fastText models (`.bin`), version 12: arguments, dictionary, input matrix, output matrix.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom, Write},
    path::Path,
};

use koan_files::{FilesError, NewFile};

use super::{
    dictionary::{Dictionary, Entry},
    model::{Loss, Model, Shape},
};
use crate::MineError;

const MAGIC: i32 = 793_712_314;
const VERSION: i32 = 12;
const SUPERVISED: i32 = 3;
const SOFTMAX: i32 = 3;
/// Bytes of a word in a file, at most.
const MAX_WORD: u64 = 1 << 16;

impl Model {
    /// Writes the model to the file `path`, whole or not at all.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn save(&self, path: &Path) -> Result<(), MineError> {
        let mut file = NewFile::create(path)?;
        self.write(&mut file).map_err(FilesError::io("write", path))?;
        Ok(file.finish()?)
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Shape { dim, word_ngrams, buckets, epochs, min_count } = self.shape;
        let int = |n: usize| (n as i32).to_le_bytes();
        let mut head = Vec::new();
        for n in [MAGIC, VERSION] {
            head.extend_from_slice(&n.to_le_bytes());
        }
        // dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate, t
        let (loss, model) = (SOFTMAX as usize, SUPERVISED as usize);
        for n in [dim, 5, epochs, min_count as usize, 5, word_ngrams, loss, model, buckets, 0, 0, 100] {
            head.extend_from_slice(&int(n));
        }
        head.extend_from_slice(&1e-4f64.to_le_bytes());
        let Dictionary { words, labels, tokens, .. } = &self.dictionary;
        for n in [words.len() + labels.len(), words.len(), labels.len()] {
            head.extend_from_slice(&int(n));
        }
        head.extend_from_slice(&tokens.to_le_bytes());
        head.extend_from_slice(&(-1i64).to_le_bytes());
        out.write_all(&head)?;
        for (entries, kind) in [(words, 0u8), (labels, 1)] {
            for Entry { word, count } in entries {
                out.write_all(word)?;
                out.write_all(&[0])?;
                out.write_all(&count.to_le_bytes())?;
                out.write_all(&[kind])?;
            }
        }
        for matrix in [&self.input, &self.output] {
            out.write_all(&[0])?;
            out.write_all(&((matrix.len() / dim) as i64).to_le_bytes())?;
            out.write_all(&(dim as i64).to_le_bytes())?;
            for values in matrix.chunks(4096) {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }
}

/// A model's file, of which all but the input matrix was read.
pub(super) struct Opened {
    pub(super) shape: Shape,
    pub(super) loss: Loss,
    pub(super) dictionary: Dictionary,
    /// Row-major, a vector for each label.
    pub(super) output: Vec<f32>,
    /// Rows of the input matrix.
    pub(super) rows: usize,
    input: BufReader<File>,
    /// Where the input matrix begins.
    at: u64,
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, MineError> {
        let read = || -> io::Result<Result<Self, String>> {
            let file = koan_files::open(path)?;
            let bytes = file.metadata()?.len();
            read(BufReader::with_capacity(1 << 18, file), bytes)
        };
        let wrong = |what: String| MineError::Input { path: path.into(), what };
        match read() {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(what)) => Err(wrong(what)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(wrong("is a fastText model that was cut off; copy it again".into()))
            }
            Err(error) => Err(FilesError::io("read", path)(error).into()),
        }
    }

    /// Hands `each` the vectors of the input matrix, in their order.
    pub(super) fn rows(mut self, mut each: impl FnMut(&[f32])) -> io::Result<()> {
        self.input.seek(SeekFrom::Start(self.at))?;
        let mut bytes = vec![0; self.shape.dim * 4];
        let mut row = vec![0.0; self.shape.dim];
        for _ in 0..self.rows {
            self.input.read_exact(&mut bytes)?;
            floats(&bytes, &mut row);
            each(&row);
        }
        Ok(())
    }
}

fn floats(bytes: &[u8], to: &mut [f32]) {
    for (to, bytes) in to.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *to = f32::from_le_bytes(*bytes);
    }
}

/// Reads a file of this many bytes; or says why it is no model that is read here.
fn read(mut input: BufReader<File>, bytes: u64) -> io::Result<Result<Opened, String>> {
    let wrong = |what: &str| Ok(Err(what.to_owned()));
    if int(&mut input)? != MAGIC {
        return wrong("is no fastText model (.bin): it does not begin as one");
    }
    let version = int(&mut input)?;
    if !(11..=VERSION).contains(&version) {
        return wrong("is a fastText model of a version that is not read; versions 11 and 12 are");
    }
    let mut args = [0; 12];
    for arg in &mut args {
        *arg = int(&mut input)?;
    }
    let [dim, _, epochs, min_count, _, word_ngrams, loss, model, buckets, _, maxn, _] = args;
    let maxn = if version == 11 && model == SUPERVISED { 0 } else { maxn };
    long(&mut input)?; // t
    if model != SUPERVISED {
        return wrong(
            "holds word vectors and no classifier; train one with `fasttext supervised` or `koan mine train`",
        );
    }
    if maxn != 0 {
        return wrong("has n-grams of characters, which are not computed here; train it with -maxn 0");
    }
    let loss = match loss {
        SOFTMAX => Loss::Softmax,
        2 | 4 => Loss::Sigmoid,
        _ => {
            return wrong(
                "has a hierarchical softmax, which is not computed here; train it with -loss softmax",
            );
        }
    };
    let ([size, words, labels], tokens) =
        ([int(&mut input)?, int(&mut input)?, int(&mut input)?], long(&mut input)?);
    let pruned = long(&mut input)?;
    let within = |n: i32, limit: u64| u64::try_from(n).is_ok_and(|n| n <= limit);
    if !(within(dim, 4096) && dim > 0 && within(word_ngrams, 8) && within(buckets, i32::MAX as u64))
        || !(within(words, bytes / 10) && within(labels, 4096) && words.checked_add(labels) == Some(size))
    {
        return wrong("is damaged: its sizes are out of range");
    }
    if pruned >= 0 {
        return wrong("is quantized or pruned; give the model that it was made of (.bin, not .ftz)");
    }
    let (mut kinds, mut wrong_kind) = ([Vec::new(), Vec::new()], false);
    for _ in 0..size {
        let mut word = Vec::new();
        io::BufRead::read_until(&mut Read::take(&mut input, MAX_WORD), 0, &mut word)?;
        wrong_kind |= word.pop() != Some(0);
        let count = long(&mut input)? as u64;
        match byte(&mut input)? {
            kind @ (0 | 1) => kinds[kind as usize].push(Entry { word: word.into(), count }),
            _ => wrong_kind = true,
        }
        if wrong_kind {
            return wrong("is damaged: its dictionary has an entry that is neither a word nor a label");
        }
    }
    let [word_entries, label_entries] = kinds;
    if word_entries.len() != words as usize {
        return wrong("is damaged: its dictionary has another number of words than it says");
    }
    let quantized = "is quantized; give the model that it was made of (.bin, not .ftz)";
    if byte(&mut input)? != 0 {
        return wrong(quantized);
    }
    let (dim, buckets) = (dim as usize, buckets as usize);
    let (rows, columns) = (long(&mut input)? as u64, long(&mut input)? as u64);
    let at = input.stream_position()?;
    if columns != dim as u64
        || rows > bytes / (4 * columns)
        || rows < words as u64 + if word_ngrams > 1 { buckets as u64 } else { 0 }
    {
        return wrong("is damaged: its input matrix has another size than its dictionary");
    }
    input.seek(SeekFrom::Start(at + rows * columns * 4))?;
    if byte(&mut input)? != 0 {
        return wrong(quantized);
    }
    if (long(&mut input)?, long(&mut input)? as u64) != (i64::from(labels), columns) {
        return wrong("is damaged: its output matrix has another size than its labels");
    }
    let mut raw = vec![0; labels as usize * dim * 4];
    input.read_exact(&mut raw)?;
    let mut output = vec![0.0; labels as usize * dim];
    floats(&raw, &mut output);
    Ok(Ok(Opened {
        shape: Shape {
            dim,
            word_ngrams: word_ngrams as usize,
            buckets,
            epochs: epochs as usize,
            min_count: min_count as u64,
        },
        loss,
        dictionary: Dictionary::new(word_entries, label_entries, tokens as u64),
        output,
        rows: rows as usize,
        input,
        at,
    }))
}

fn byte(input: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn int(input: &mut impl Read) -> io::Result<i32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(i32::from_le_bytes(bytes))
}

fn long(input: &mut impl Read) -> io::Result<i64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(i64::from_le_bytes(bytes))
}
