//! The rows of a pass on the device: one block of words, uploaded once.

use koan_backend::{Draw, Layout, OutOfMemory, Sequence};

use crate::{
    cuda::Cuda,
    device::Address,
    memory::Memory,
    sequences::{Planned, Sequences},
};

/// A [`Layout`] on a device.
pub struct DeviceLayout {
    /// The layout itself: its sizes are the host's to read.
    pub(crate) host: Layout,
    words: Memory<u32>,
    ids: Part,
    positions: Part,
    cache_rows: Part,
    head_rows: Part,
    targets: Part,
    draws: Part,
    gradients: Option<Gradients>,
    /// The greatest token and position, and the row after the last that keys are stored in.
    bounds: [u32; 3],
    sequences: Sequences,
}

/// What only a backward needs, of a pass without a cache.
struct Gradients {
    heads_of_rows: Part,
    order: Part,
    starts: Part,
    distinct: Part,
    sequence_rows: Part,
    sequence_of: Part,
}

/// The rows of each token: those of `ids` distinct ones, of which number `i` is `distinct[i]` and has the rows
/// `order[starts[i]..starts[i + 1]]`, ascending.
pub(crate) struct ById {
    pub(crate) ids: usize,
    pub(crate) order: Address,
    pub(crate) starts: Address,
    pub(crate) distinct: Address,
}

/// Words of a block that begin at a multiple of 16 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) start: usize,
    len: usize,
}

/// A block of words, part by part.
#[derive(Default)]
pub(crate) struct Parts(pub(crate) Vec<u32>);

impl Parts {
    /// Adds a part.
    pub(crate) fn push(&mut self, words: &[u32]) -> Part {
        let start = self.0.len().next_multiple_of(4);
        self.0.resize(start, 0);
        self.0.extend_from_slice(words);
        Part { start, len: words.len() }
    }
}

impl DeviceLayout {
    pub(crate) fn new(cuda: &Cuda, host: Layout) -> Result<Self, OutOfMemory> {
        host.check();
        let mut parts = Parts::default();
        let ids = parts.push(&host.ids);
        let positions = parts.push(&host.positions);
        let cache_rows = parts.push(&host.cache_rows);
        let head_rows = parts.push(&host.head_rows);
        let targets = parts.push(&host.targets);
        let draws = parts.push(&host.draws.iter().flat_map(words_of).collect::<Vec<_>>());
        let gradients = host.cache_rows.is_empty().then(|| Gradients::new(&mut parts, &host));
        let greatest = |x: &[u32]| x.iter().copied().max();
        let stored = greatest(&host.cache_rows).map_or(host.len() as u32, |row| row + 1);
        let bounds = [greatest(&host.ids).unwrap_or(0), greatest(&host.positions).unwrap_or(0), stored];
        let sequences = Planned::new(&mut parts, &host.sequences);
        let words = Memory::upload(&cuda.device, &parts.0)?;
        let sequences = sequences.on_device(cuda, &words)?;
        Ok(Self {
            host,
            words,
            ids,
            positions,
            cache_rows,
            head_rows,
            targets,
            draws,
            gradients,
            bounds,
            sequences,
        })
    }

    fn at(&self, part: Part) -> Address {
        self.words.at(part.start)
    }

    /// u32 `[rows]`
    pub(crate) fn ids(&self) -> Address {
        self.at(self.ids)
    }

    /// u32 `[rows]`
    pub(crate) fn positions(&self) -> Address {
        assert_eq!(self.positions.len, self.host.len(), "a position for each row");
        self.at(self.positions)
    }

    /// u32 `[rows]`, or null without a cache.
    pub(crate) fn cache_rows(&self) -> Address {
        if self.cache_rows.len == 0 { 0 } else { self.at(self.cache_rows) }
    }

    /// u32 `[head rows]`
    pub(crate) fn head_rows(&self) -> Address {
        self.at(self.head_rows)
    }

    /// u32 `[head rows]`
    pub(crate) fn targets(&self) -> Address {
        assert_eq!(self.targets.len, self.host.head_rows.len(), "a target for each head row");
        self.at(self.targets)
    }

    /// Tokens that a table needs so that it has a row for each of the pass.
    pub(crate) fn vocabulary(&self) -> usize {
        if self.host.is_empty() { 0 } else { self.bounds[0] as usize + 1 }
    }

    /// The greatest position.
    pub(crate) fn greatest_position(&self) -> u32 {
        self.bounds[1]
    }

    /// Rows of keys that the pass needs to store its own.
    pub(crate) fn stored_rows(&self) -> usize {
        self.bounds[2] as usize
    }

    /// The rows' sequences.
    pub(crate) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Where tile `first` of the sequences lies, four words a tile.
    pub(crate) fn tiles(&self, first: usize) -> Address {
        self.words.at(self.sequences.tile_word(first))
    }

    fn gradients(&self) -> &Gradients {
        self.gradients.as_ref().expect("the layout of a pass without a cache, which a backward follows")
    }

    /// `Draw` of `log_prob.cu`, `[head rows]`
    pub(crate) fn draws(&self) -> Address {
        assert_eq!(self.draws.len, 8 * self.host.head_rows.len(), "a draw for each head row");
        self.at(self.draws)
    }

    /// u32 `[rows]`: the number of each row among the head rows, and the greatest u32 where it is none.
    pub(crate) fn heads_of_rows(&self) -> Address {
        self.at(self.gradients().heads_of_rows)
    }

    /// u32 `[sequences, 2]`: the first row of each, and the one after its last.
    pub(crate) fn sequence_rows(&self) -> Address {
        self.at(self.gradients().sequence_rows)
    }

    /// u32 `[rows]`: the sequence of each row, and the greatest u32 where it is in none.
    pub(crate) fn sequence_of(&self) -> Address {
        self.at(self.gradients().sequence_of)
    }

    /// The rows by their token.
    pub(crate) fn by_id(&self) -> ById {
        let Gradients { order, starts, distinct, .. } = self.gradients();
        let [order, starts, at] = [order, starts, distinct].map(|part| self.at(*part));
        ById { ids: distinct.len, order, starts, distinct: at }
    }
}

impl Gradients {
    fn new(parts: &mut Parts, layout: &Layout) -> Self {
        let mut heads_of_rows = vec![u32::MAX; layout.len()];
        for (i, &row) in layout.head_rows.iter().enumerate() {
            heads_of_rows[row as usize] = i as u32;
        }
        let mut rows: Vec<(u32, u32)> = layout.ids.iter().copied().zip(0..).collect();
        rows.sort_unstable();
        let (mut starts, mut distinct) = (Vec::new(), Vec::new());
        for (i, &(id, _)) in rows.iter().enumerate() {
            if distinct.last() != Some(&id) {
                starts.push(i as u32);
                distinct.push(id);
            }
        }
        starts.push(rows.len() as u32);
        let ends = |s: &Sequence| [s.rows.start as u32, s.rows.end as u32];
        let sequence_rows: Vec<u32> = layout.sequences.iter().flat_map(ends).collect();
        let mut sequence_of = vec![u32::MAX; layout.len()];
        (0..).zip(&layout.sequences).for_each(|(i, s)| sequence_of[s.rows.clone()].fill(i));
        let order: Vec<u32> = rows.into_iter().map(|(_, row)| row).collect();
        Self {
            heads_of_rows: parts.push(&heads_of_rows),
            order: parts.push(&order),
            starts: parts.push(&starts),
            distinct: parts.push(&distinct),
            sequence_rows: parts.push(&sequence_rows),
            sequence_of: parts.push(&sequence_of),
        }
    }
}

/// The words of a `Draw` of `log_prob.cu`.
fn words_of(draw: &Draw) -> [u32; 8] {
    let uniform = draw.uniform.to_bits();
    [
        uniform as u32,
        (uniform >> 32) as u32,
        draw.temperature_of_log_prob().recip().to_bits(),
        (draw.temperature == 0.0).into(),
        u32::try_from(draw.top_k).unwrap_or(u32::MAX),
        draw.top_p.to_bits(),
        draw.min_p.to_bits(),
        draw.truncates().into(),
    ]
}
