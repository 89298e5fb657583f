//! Deflate (RFC 1951) that lies in memory whole, as a crawl's members do: faster than a stream's, which must be able to stop anywhere.
//!
//! As libdeflate does it: a 64-bit buffer of bits, tables whose entries hold all that a code stands for, and copies of eight bytes at a
//! time. What is not whole, does not fit or is damaged gives nothing: [`super::inflate`] then reads it as a stream.

/// Bits that look up a literal or length, a distance, and a code of lengths; longer codes go on in a table of their own.
const LITERAL_BITS: u32 = 10;
const DISTANCE_BITS: u32 = 8;
const LENGTHS_BITS: u32 = 7;
/// Entries of the tables: at most 1,334 and 402 are needed (zlib's `enough`), and a power of two is indexed without a check.
const LITERALS: usize = 2048;
const DISTANCES: usize = 512;

/// An entry of a table. A literal: its byte from bit 16 on. A length or distance: its base from bit 16 on, the bits of its code from bit 8
/// on. Of all, the low 8 bits are the bits that it takes, with the extra bits of a length or distance.
type Entry = u32;
const LITERAL: Entry = 1 << 31;
/// Neither literal, length nor distance: the end of a block, a further table (its place from bit 16 on, its bits from bit 8 on), or,
/// with neither bit below, what must not be.
const OTHER: Entry = 1 << 15;
const FURTHER: Entry = 1 << 14;
const END: Entry = 1 << 13;

/// Bytes that are copied at a time.
const WIDE: usize = 32;
/// Room that a step may need: two literals, and a match of 258 bytes.
const ROOM: usize = 2 + 258 + WIDE;

/// The unpacker; its tables are used again.
pub(super) struct Whole {
    literals: Box<[Entry; LITERALS]>,
    distances: Box<[Entry; DISTANCES]>,
    symbols: Symbols,
}

/// What symbols stand for, as entries without the bits of their codes.
struct Symbols {
    literals: [Entry; 288],
    distances: [Entry; 32],
    lengths: [Entry; 19],
}

impl Whole {
    pub(super) fn new() -> Self {
        Self {
            literals: Box::new([0; LITERALS]),
            distances: Box::new([0; DISTANCES]),
            symbols: Symbols::new(),
        }
    }

    /// Unpacks the stream that `input` begins with to the beginning of `out`: how many bytes it has, packed and unpacked.
    pub(super) fn unpack(&mut self, input: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
        let mut bits = Bits::new(input);
        let mut at = 0;
        loop {
            bits.refill();
            let is_last = bits.take(1) == 1;
            match bits.take(2) {
                0 => at = stored(&mut bits, out, at)?,
                1 => {
                    self.fixed()?;
                    (bits, at) = self.block(bits, out, at)?;
                }
                2 => {
                    self.dynamic(&mut bits)?;
                    (bits, at) = self.block(bits, out, at)?;
                }
                _ => return None,
            }
            if is_last {
                return Some((bits.place()?, at));
            }
        }
    }

    /// The tables of a block with the codes of the standard.
    fn fixed(&mut self) -> Option<()> {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        table(&mut *self.literals, LITERAL_BITS, &lengths, &self.symbols.literals)?;
        table(&mut *self.distances, DISTANCE_BITS, &[5; 32], &self.symbols.distances)
    }

    /// The tables of a block that brings its codes.
    fn dynamic(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances) = (bits.take(5) as usize + 257, bits.take(5) as usize + 1);
        let n = bits.take(4) as usize + 4;
        let mut own = [0u8; 19];
        for place in &ORDER[..n] {
            bits.refill();
            own[*place] = bits.take(3) as u8;
        }
        // A code of lengths is complete, and so has two of them.
        if own.iter().filter(|length| **length > 0).count() < 2 || literals > 286 || distances > 30 {
            return None;
        }
        let mut codes = [0; 1 << LENGTHS_BITS];
        table(&mut codes, LENGTHS_BITS, &own, &self.symbols.lengths)?;
        // Room for a run that goes beyond the last.
        let mut lengths = [0u8; 288 + 32 + 138];
        let (all, mut at) = (literals + distances, 0);
        while at < all {
            bits.refill();
            let entry = codes[(bits.bits & ((1 << LENGTHS_BITS) - 1)) as usize];
            if entry as u8 == 0 {
                return None;
            }
            bits.drop(entry & 0xff);
            let (value, times) = match entry >> 16 {
                16 => (*lengths.get(at.checked_sub(1)?)?, 3 + bits.take(2)),
                17 => (0, 3 + bits.take(3)),
                18 => (0, 11 + bits.take(7)),
                length => (length as u8, 1),
            };
            lengths[at..at + times as usize].fill(value);
            at += times as usize;
        }
        if at > all {
            return None;
        }
        table(&mut *self.literals, LITERAL_BITS, &lengths[..literals], &self.symbols.literals)?;
        table(&mut *self.distances, DISTANCE_BITS, &lengths[literals..all], &self.symbols.distances)
    }

    /// Unpacks a block of codes to `out[at..]`; where it ends.
    fn block<'a>(&self, mut bits: Bits<'a>, out: &mut [u8], mut at: usize) -> Option<(Bits<'a>, usize)> {
        let (literals, distances) = (&*self.literals, &*self.distances);
        let literal = |bits: &Bits<'_>| literals[bits.bits as usize & ((1 << LITERAL_BITS) - 1)];
        bits.refill();
        // The entry of the next code is looked up before a copy, which takes its time.
        let mut entry = literal(&bits);
        loop {
            let room = out.get_mut(at..)?.first_chunk_mut::<ROOM>()?;
            // 56 bits are there, and a literal of this table takes ten at most.
            let mut before = bits.bits;
            bits.drop(entry);
            if entry & LITERAL != 0 {
                room[0] = (entry >> 16) as u8;
                entry = literal(&bits);
                before = bits.bits;
                bits.drop(entry);
                at += 1;
                if entry & LITERAL != 0 {
                    room[1] = (entry >> 16) as u8;
                    entry = literal(&bits);
                    before = bits.bits;
                    bits.drop(entry);
                    at += 1;
                    if entry & LITERAL != 0 {
                        room[2] = (entry >> 16) as u8;
                        entry = literal(&bits);
                        bits.refill();
                        at += 1;
                        continue;
                    }
                }
            }
            if entry & OTHER != 0 {
                if entry & FURTHER != 0 {
                    entry = literals[further(entry, &bits) % LITERALS];
                    before = bits.bits;
                    bits.drop(entry);
                }
                if entry & LITERAL != 0 {
                    *out.get_mut(at)? = (entry >> 16) as u8;
                    at += 1;
                    bits.refill();
                    entry = literal(&bits);
                    continue;
                }
                if entry & OTHER != 0 {
                    return (entry & END != 0).then_some((bits, at));
                }
            }
            let length = value(before, entry);
            // A distance takes 28 bits.
            bits.refill();
            let mut own = distances[bits.bits as usize & ((1 << DISTANCE_BITS) - 1)];
            if own & OTHER != 0 {
                if own & FURTHER == 0 {
                    return None;
                }
                bits.drop(own);
                own = distances[further(own, &bits) % DISTANCES];
                if own & OTHER != 0 {
                    return None;
                }
            }
            before = bits.bits;
            bits.drop(own);
            let distance = value(before, own);
            bits.refill();
            entry = literal(&bits);
            copy(out, at, distance, length)?;
            at += length;
        }
    }
}

/// Where an entry's further table goes on by the next bits.
#[inline(always)]
fn further(entry: Entry, bits: &Bits<'_>) -> usize {
    (entry >> 16) as usize + (bits.bits as usize & ((1 << (entry >> 8 & 15)) - 1))
}

/// The length or distance of an entry whose code the bits `before` begin with.
#[inline(always)]
fn value(before: u64, entry: Entry) -> usize {
    let extra = (before & ((1 << (entry & 63)) - 1)) >> (entry >> 8 & 15);
    (entry >> 16) as usize + extra as usize
}

/// Copies the `length` bytes that lie `distance` bytes before `at`, which may be those that it writes, with room behind them; none if
/// there is no such byte.
#[inline(always)]
fn copy(out: &mut [u8], at: usize, distance: usize, length: usize) -> Option<()> {
    let from = at.checked_sub(distance)?;
    if distance >= WIDE {
        let mut done = 0;
        while done < length {
            let wide = *out.get(from + done..)?.first_chunk::<WIDE>()?;
            *out.get_mut(at + done..)?.first_chunk_mut::<WIDE>()? = wide;
            done += WIDE;
        }
    } else if distance >= 8 {
        let mut done = 0;
        while done < length {
            let eight = *out.get(from + done..)?.first_chunk::<8>()?;
            *out.get_mut(at + done..)?.first_chunk_mut::<8>()? = eight;
            done += 8;
        }
    } else if distance == 1 {
        let byte = out[from];
        out[at..at + length].fill(byte);
    } else {
        for i in 0..length {
            out[at + i] = out[from + i];
        }
    }
    Some(())
}

/// Copies a block that is not packed.
fn stored(bits: &mut Bits<'_>, out: &mut [u8], at: usize) -> Option<usize> {
    let place = bits.place()?;
    let (length, inverse) = bits.input.get(place..)?.first_chunk::<4>()?.split_at(2);
    let [length, inverse] = [length, inverse].map(|two| u16::from_le_bytes([two[0], two[1]]));
    if length != !inverse {
        return None;
    }
    let (begin, end) = (place + 4, place + 4 + usize::from(length));
    let to = at + usize::from(length);
    out.get_mut(at..to)?.copy_from_slice(bits.input.get(begin..end)?);
    *bits = Bits { at: end, ..Bits::new(bits.input) };
    Some(to)
}

/// The input as bits, the lowest first.
#[allow(clippy::struct_field_names, reason = "the bits of the input are what it holds")]
struct Bits<'a> {
    input: &'a [u8],
    /// Of the next byte to be put into `bits`.
    at: usize,
    bits: u64,
    /// In its low eight bits, how many bits count of `bits`; those above are of the next bytes, or zero.
    count: u32,
    /// Bytes behind the end that were put in as zeros.
    missing: usize,
}

impl<'a> Bits<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, bits: 0, count: 0, missing: 0 }
    }

    /// Puts bytes in, up to 56 bits at least.
    #[inline(always)]
    fn refill(&mut self) {
        if let Some(eight) = self.input.get(self.at..).and_then(<[u8]>::first_chunk) {
            self.bits |= u64::from_le_bytes(*eight) << (self.count & 63);
            self.at += 7 - (self.count as usize >> 3 & 7);
            self.count |= 0x38;
        } else {
            self.refill_at_end();
        }
    }

    #[cold]
    fn refill_at_end(&mut self) {
        self.count &= 63;
        while self.count < 56 {
            match self.input.get(self.at) {
                Some(byte) => {
                    self.bits |= u64::from(*byte) << self.count;
                    self.at += 1;
                }
                None => self.missing += 1,
            }
            self.count += 8;
        }
    }

    /// Drops as many bits as the low eight bits of `n` say, 63 at most. Its other bits make `count` wrong above its own low eight.
    #[inline(always)]
    fn drop(&mut self, n: u32) {
        self.bits >>= n & 63;
        self.count = self.count.wrapping_sub(n);
    }

    #[inline(always)]
    fn take(&mut self, n: u32) -> u32 {
        let value = self.bits as u32 & ((1 << n) - 1);
        self.drop(n);
        value
    }

    /// The place of the next byte behind those of which a bit was used; none if bits behind the end were used.
    fn place(&self) -> Option<usize> {
        let unused = (self.count as usize & 63) / 8;
        (unused >= self.missing).then(|| self.at + self.missing - unused)
    }
}

impl Symbols {
    fn new() -> Self {
        let mut literals = [OTHER; 288];
        for (byte, entry) in literals[..256].iter_mut().enumerate() {
            *entry = LITERAL | (byte as u32) << 16;
        }
        literals[256] = OTHER | END;
        let mut base = 3;
        for (i, entry) in literals[257..285].iter_mut().enumerate() {
            let extra = if i < 8 { 0 } else { i as u32 / 4 - 1 };
            *entry = base << 16 | extra;
            base += 1 << extra;
        }
        literals[285] = 258 << 16;
        let mut distances = [OTHER; 32];
        let mut base = 1;
        for (i, entry) in distances[..30].iter_mut().enumerate() {
            let extra = if i < 4 { 0 } else { i as u32 / 2 - 1 };
            *entry = base << 16 | extra;
            base += 1 << extra;
        }
        Self { literals, distances, lengths: std::array::from_fn(|i| (i as u32) << 16) }
    }
}

/// Fills `table` for codes of these lengths, by which `bits` bits look up the entry of a symbol. None if they are no complete code.
fn table(table: &mut [Entry], bits: u32, lengths: &[u8], symbols: &[Entry]) -> Option<()> {
    let mut counts = [0u16; 16];
    for length in lengths {
        counts[usize::from(length & 15)] += 1;
    }
    let used = lengths.len() - usize::from(counts[0]);
    counts[0] = 0;
    // The symbols by length, and by value.
    let mut starts = [0u16; 17];
    let mut space = 0u32;
    for length in 1..16 {
        starts[length + 1] = starts[length] + counts[length];
        space += u32::from(counts[length]) << (15 - length);
    }
    let mut sorted = [0u16; 288];
    for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        let start = &mut starts[usize::from(*length)];
        sorted[usize::from(*start)] = symbol as u16;
        *start += 1;
    }
    if space < 1 << 15 {
        // No distance, or one alone of one bit: whoever uses what is not there is wrong.
        if used > 1 || used == 1 && counts[1] != 1 {
            return None;
        }
        table[..1 << bits].fill(OTHER);
        if used == 1 {
            let entry = with_code(symbols[usize::from(sorted[0])], 1);
            table[..1 << bits].iter_mut().step_by(2).for_each(|place| *place = entry);
        }
        return Some(());
    }
    if space > 1 << 15 {
        return None;
    }
    let mut sorted = sorted[..used].iter().map(|symbol| symbols[usize::from(*symbol)]);
    // Codes count up with their first bit lowest; a table for longer codes is that of the shorter ones twice.
    let mut length = counts.iter().position(|count| *count > 0)? as u32;
    let (mut code, mut end, mut count) = (0usize, 1usize << length.min(bits), counts[length as usize]);
    let next = |code: usize, length: u32| {
        let bit = 1usize << (usize::BITS - 1 - (code ^ ((1 << length) - 1)).leading_zeros());
        code & (bit - 1) | bit
    };
    while length <= bits {
        for _ in 0..count {
            table[code] = with_code(sorted.next()?, length);
            if code == end - 1 {
                while end < 1 << bits {
                    table.copy_within(..end, end);
                    end *= 2;
                }
                return Some(());
            }
            code = next(code, length);
        }
        loop {
            length += 1;
            if length <= bits {
                table.copy_within(..end, end);
                end *= 2;
            }
            count = *counts.get(length as usize)?;
            if count > 0 {
                break;
            }
        }
    }
    // Further tables, each for the codes that begin alike.
    let (mut prefix, mut start) = (usize::MAX, end);
    loop {
        let own = code & ((1 << bits) - 1);
        if own != prefix {
            (prefix, start) = (own, end);
            let mut further = length - bits;
            let mut space = u32::from(count);
            while space < 1 << further {
                further += 1;
                space = (space << 1) + u32::from(*counts.get((bits + further) as usize)?);
            }
            end = start + (1 << further);
            table[prefix] = OTHER | FURTHER | (start as u32) << 16 | further << 8 | bits;
        }
        let entry = with_code(sorted.next()?, length - bits);
        let first = start + (code >> bits);
        let own = table.get_mut(..end)?;
        let mut place = first;
        while place < end {
            own[place] = entry;
            place += 1 << (length - bits);
        }
        if code == (1 << length) - 1 {
            return Some(());
        }
        code = next(code, length);
        count -= 1;
        while count == 0 {
            length += 1;
            count = *counts.get(length as usize)?;
        }
    }
}

/// A symbol's entry with the bits of its code.
fn with_code(symbol: Entry, bits: u32) -> Entry {
    if symbol & (LITERAL | OTHER) != 0 { symbol | bits } else { (symbol + bits) | bits << 8 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::inflate::{Inflater, Step},
        *,
    };

    /// What zlib makes of a stream: bytes read, and what came out; none unless it ends.
    fn streamed(input: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut out = vec![0; 1 << 18];
        let (read, written, step) = Inflater::new().run(input, &mut out);
        out.truncate(written);
        (step == Step::End).then_some((read, out))
    }

    fn whole(input: &[u8]) -> Option<(usize, Vec<u8>)> {
        let mut out = vec![0; 1 << 18];
        let (read, written) = Whole::new().unpack(input, &mut out)?;
        out.truncate(written);
        Some((read, out))
    }

    fn deflate(bytes: &[u8], level: i32, strategy: zlib_rs::Strategy) -> Vec<u8> {
        let mut packed = vec![0; bytes.len() + 1000];
        let config =
            zlib_rs::DeflateConfig { level, strategy, window_bits: -15, ..zlib_rs::DeflateConfig::default() };
        let (packed, code) = zlib_rs::compress_slice(&mut packed, bytes, config);
        assert_eq!(code, zlib_rs::ReturnCode::Ok);
        packed.to_vec()
    }

    #[test]
    fn it_begins_anywhere_and_ends_where_the_stream_does() {
        let text = "Deflate, deflate: aaaaaaaaaaaaaaa, and what comes after. ".repeat(40);
        let mut packed = deflate(text.as_bytes(), 6, zlib_rs::Strategy::Default);
        let n = packed.len();
        assert_eq!(whole(&packed), Some((n, text.clone().into_bytes())));
        packed.extend(b"and more");
        assert_eq!(whole(&packed), Some((n, text.into_bytes())));
        for end in 0..n {
            assert_eq!(whole(&packed[..end]), None, "cut at {end}");
        }
        let mut small = [0; 1000];
        assert_eq!(Whole::new().unpack(&packed, &mut small), None, "no room");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Texts of few and of many characters, and noise: all kinds of blocks and codes of all lengths.
        #[test]
        fn as_zlib_does(seed in any::<u64>(), length in 0usize..60_000, spread in 1u32..64, level in 0i32..10, way in 0usize..4, harm in any::<Option<(u16, u8)>>()) {
            let mut x = seed | 1;
            let mut bytes = Vec::with_capacity(length);
            while bytes.len() < length {
                x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ 0x5bd1;
                // Powers of two of chance: codes from one bit to fifteen.
                let byte = (x.trailing_zeros() * spread) as u8;
                let back = (x >> 40) as usize % 40_000;
                if (x >> 32).is_multiple_of(16) && back > 0 && back < bytes.len() {
                    let from = bytes.len() - back;
                    bytes.extend_from_within(from..(from + 3 + (x >> 20) as usize % 300).min(bytes.len()));
                } else {
                    bytes.push(if spread > 60 { (x >> 13) as u8 } else { byte });
                }
            }
            let strategy = [zlib_rs::Strategy::Default, zlib_rs::Strategy::HuffmanOnly, zlib_rs::Strategy::Fixed, zlib_rs::Strategy::Rle][way];
            let mut packed = deflate(&bytes, level, strategy);
            prop_assert_eq!(whole(&packed), Some((packed.len(), bytes)));
            if let Some((place, change)) = harm {
                let n = packed.len();
                packed[usize::from(place) % n] ^= change;
                if let Some(found) = whole(&packed) {
                    prop_assert_eq!(Some(found), streamed(&packed));
                }
            }
        }

        #[test]
        fn any_bytes_are_what_zlib_says_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(found) = whole(&bytes) {
                prop_assert_eq!(Some(found), streamed(&bytes));
            }
        }
    }
}
