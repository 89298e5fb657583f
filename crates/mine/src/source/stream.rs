//! A file unpacked, member by member: gzip members, frames of zstd and LZ4, or all of a plain file.
//!
//! A crawl's record lies in a member of its own, so that a member's end says where a record ends whatever its length says, and behind
//! damage reading goes on at the next member.

use std::{
    io::{self, Read as _},
    path::Path,
};

use lz4_flex::frame::FrameDecoder;
use zstd::stream::raw::{Decoder, Operation as _};

use super::{
    inflate::{GZIP, Inflater, MAX_HEADER, Step, fits, gzip_header},
    raw::Raw,
    whole::Whole,
};

/// Unpacked bytes held at a time; a look ahead is at most half as long.
const BUFFER: usize = 512 << 10;
/// Packed bytes that are looked at, at least, to unpack a gzip member in one go.
const AHEAD: usize = 64 << 10;
/// The magic of a zstd frame, and the second to fourth bytes of frames that are skipped.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The frame that holds the dictionary of a `.warc.zst` (IIPC's convention), and its greatest length, bytes.
const ZSTD_DICTIONARY: [u8; 4] = [0x5d, 0x2a, 0x4d, 0x18];
const MAX_DICTIONARY: usize = 16 << 20;
const LZ4: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// What is wrong with a packed file at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where the member begins, bytes.
    pub(super) place: u64,
    /// What is wrong.
    pub(super) what: &'static str,
    /// Whether it is only that the file ends too early: what came before is right.
    pub(super) is_end: bool,
}

/// Why no bytes come.
#[derive(Debug)]
pub(super) enum Broken {
    Damage(Damage),
    System(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

enum Packing {
    Plain(Raw),
    Gzip(Raw, Box<Gzip>),
    Zstd(Raw, Decoder<'static>, Vec<u8>),
    Lz4(Box<FrameDecoder<Raw>>),
    /// Between two decoders.
    Gone,
}

/// The unpackers of gzip members: of those that lie in memory whole, and of others.
struct Gzip {
    whole: Whole,
    stream: Inflater,
}

/// A file as its unpacked members.
pub(super) struct Stream {
    packing: Packing,
    buffer: Vec<u8>,
    filled: std::ops::Range<usize>,
    /// Where the member began that the buffer's bytes are of.
    member: u64,
    /// Whether all of the member is in the buffer.
    is_whole: bool,
    /// That the file ends inside of the member, to be said behind its last byte.
    end: Option<Damage>,
    /// Unpacked bytes before `buffer[filled.start]`, of the whole file, and of the member.
    unpacked: u64,
    of_member: u64,
}

impl Stream {
    /// Opens a file by its first bytes.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut raw = Raw::open(path)?;
        let head = raw.peek(4)?.to_vec();
        let packing = if head.starts_with(&GZIP) {
            Packing::Gzip(raw, Box::new(Gzip { whole: Whole::new(), stream: Inflater::new() }))
        } else if head == ZSTD || head.get(1..) == Some(&ZSTD_SKIPPED) && head[0] & 0xf0 == 0x50 {
            let dictionary = zstd_dictionary(&mut raw)?;
            let decoder = Decoder::with_dictionary(&dictionary)?;
            Packing::Zstd(raw, decoder, dictionary)
        } else if head == LZ4 {
            Packing::Lz4(Box::new(FrameDecoder::new(raw)))
        } else {
            Packing::Plain(raw)
        };
        let mut stream = Self {
            packing,
            buffer: vec![0; BUFFER],
            filled: 0..0,
            member: 0,
            is_whole: true,
            end: None,
            unpacked: 0,
            of_member: 0,
        };
        stream.member = stream.raw().place();
        Ok(stream)
    }

    /// The bytes of the file, packed.
    pub(super) fn raw(&mut self) -> &mut Raw {
        match &mut self.packing {
            Packing::Plain(raw) | Packing::Gzip(raw, _) | Packing::Zstd(raw, ..) => raw,
            Packing::Lz4(decoder) => decoder.get_mut(),
            Packing::Gone => unreachable!("a decoder is put back at once"),
        }
    }

    /// The digest of the file; see [`Raw::digest`].
    pub(super) fn digest(self) -> io::Result<String> {
        match self.packing {
            Packing::Plain(raw) | Packing::Gzip(raw, _) | Packing::Zstd(raw, ..) => raw.digest(),
            Packing::Lz4(decoder) => decoder.into_inner().digest(),
            Packing::Gone => unreachable!("a decoder is put back at once"),
        }
    }

    /// Where a record that begins at the next byte can be found again: its member, if it is the first there; else its place in the
    /// unpacked file.
    pub(super) fn offset(&self) -> u64 {
        if self.of_member == 0 { self.member } else { self.unpacked }
    }

    /// Goes back to the first member.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        let place = self.member;
        self.raw().go_to(place)?;
        self.renew()?;
        (self.filled, self.is_whole) = (0..0, true);
        (self.unpacked, self.of_member) = (0, 0);
        Ok(())
    }

    /// Begins the next member; false behind the last. What was left of this one is passed over.
    pub(super) fn next_member(&mut self) -> Result<bool, Broken> {
        while !self.fill()?.is_empty() {
            let n = self.filled.len();
            self.consume(n);
        }
        self.begin()
    }

    /// Begins a member where the last ended.
    fn begin(&mut self) -> Result<bool, Broken> {
        self.filled = 0..0;
        self.of_member = 0;
        self.member = self.raw().place();
        let damage =
            Damage { place: self.member, what: "no member begins where the last ended", is_end: false };
        let mut whole = None;
        match &mut self.packing {
            Packing::Plain(raw) => {
                if raw.fill()?.is_empty() {
                    return Ok(false);
                }
            }
            Packing::Gzip(raw, gzip) => {
                // Tapes and some writers leave zeros behind a member.
                while raw.fill()?.first() == Some(&0) {
                    let n = raw.fill()?.iter().take_while(|byte| **byte == 0).count();
                    raw.consume(n);
                }
                self.member = raw.place();
                let mut ahead = raw.peek(1 << 10)?;
                if ahead.is_empty() {
                    return Ok(false);
                }
                if gzip_header(ahead).is_none() {
                    ahead = raw.peek(MAX_HEADER)?;
                }
                let header =
                    gzip_header(ahead).ok_or(Broken::Damage(Damage { place: self.member, ..damage }))?;
                raw.consume(header);
                raw.peek(AHEAD)?;
                whole = whole_member(&mut gzip.whole, raw.fill()?, &mut self.buffer);
                match whole {
                    Some((read, _)) => raw.consume(read),
                    None => gzip.stream.reset(),
                }
            }
            Packing::Zstd(raw, decoder, _) => {
                let head = raw.peek(4)?;
                if head.is_empty() {
                    return Ok(false);
                }
                if head != ZSTD && (head.get(1..) != Some(&ZSTD_SKIPPED[..]) || head[0] & 0xf0 != 0x50) {
                    return Err(Broken::Damage(damage));
                }
                decoder.reinit()?;
            }
            Packing::Lz4(decoder) => {
                let head = decoder.get_mut().peek(4)?;
                if head.is_empty() {
                    return Ok(false);
                }
                if head != LZ4 {
                    return Err(Broken::Damage(damage));
                }
            }
            Packing::Gone => unreachable!("a decoder is put back at once"),
        }
        (self.is_whole, self.end) = (whole.is_some(), None);
        self.filled = 0..whole.map_or(0, |(_, written)| written);
        Ok(true)
    }

    /// The next bytes of the member; none at its end.
    pub(super) fn fill(&mut self) -> Result<&[u8], Broken> {
        while self.filled.is_empty() && !self.is_whole {
            self.filled = 0..0;
            self.unpack_to_end()?;
        }
        if let Some(damage) = self.end.take_if(|_| self.filled.is_empty()) {
            return Err(Broken::Damage(damage));
        }
        Ok(&self.buffer[self.filled.clone()])
    }

    /// The next `n` bytes of the member without consuming them, or all that are left of it.
    pub(super) fn peek(&mut self, n: usize) -> Result<&[u8], Broken> {
        debug_assert!(n <= BUFFER / 2);
        while self.filled.len() < n && !self.is_whole {
            if self.buffer.len() - self.filled.start < n || self.filled.end == self.buffer.len() {
                self.buffer.copy_within(self.filled.clone(), 0);
                self.filled = 0..self.filled.len();
            }
            self.unpack_to_end()?;
        }
        let n = self.filled.len().min(n);
        Ok(&self.buffer[self.filled.clone()][..n])
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.filled.start += n;
        self.unpacked += n as u64;
        self.of_member += n as u64;
    }

    /// Puts the bytes consumed last back.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unpacked -= bytes.len() as u64;
        self.of_member = self.of_member.saturating_sub(bytes.len() as u64);
        if bytes.len() <= self.filled.start {
            self.filled.start -= bytes.len();
        } else {
            let mut buffer = bytes.to_vec();
            buffer.extend_from_slice(&self.buffer[self.filled.clone()]);
            self.filled = 0..buffer.len();
            buffer.resize(buffer.len().max(BUFFER), 0);
            self.buffer = buffer;
        }
    }

    /// Unpacks more; that the file ends is said when all that came before is consumed.
    fn unpack_to_end(&mut self) -> Result<(), Broken> {
        match self.unpack() {
            Err(Broken::Damage(damage)) if damage.is_end => {
                self.end = Some(damage);
                Ok(())
            }
            other => other,
        }
    }

    /// Unpacks more behind what is in the buffer.
    fn unpack(&mut self) -> Result<(), Broken> {
        if self.filled.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() + BUFFER, 0);
        }
        let place = self.member;
        let damage = |what| Broken::Damage(Damage { place, what, is_end: false });
        let ends = |what| Broken::Damage(Damage { place, what, is_end: true });
        let out = &mut self.buffer[self.filled.end..];
        match &mut self.packing {
            Packing::Plain(raw) => {
                let bytes = raw.fill()?;
                let n = bytes.len().min(out.len());
                out[..n].copy_from_slice(&bytes[..n]);
                raw.consume(n);
                self.is_whole = n == 0;
                self.filled.end += n;
            }
            Packing::Gzip(raw, gzip) => {
                let inflater = &mut gzip.stream;
                let input = raw.fill()?;
                let (read, written, step) = inflater.run(input, out);
                raw.consume(read);
                self.filled.end += written;
                match step {
                    Step::More if read + written == 0 => {
                        self.is_whole = true;
                        return Err(ends("the file ends inside of a gzip member"));
                    }
                    Step::More => {}
                    Step::Damaged => {
                        self.is_whole = true;
                        return Err(damage("a gzip member is damaged"));
                    }
                    Step::End => {
                        self.is_whole = true;
                        let trailer = raw.peek(8)?.try_into().ok();
                        raw.consume(if trailer.is_some() { 8 } else { 0 });
                        match trailer {
                            Some(trailer) if inflater.fits(trailer) => {}
                            Some(_) => return Err(damage("the checksum of a gzip member is wrong")),
                            None => return Err(ends("the file ends inside of a gzip member")),
                        }
                    }
                }
            }
            Packing::Zstd(raw, decoder, _) => match decoder.run_on_buffers(raw.fill()?, out) {
                Ok(status) if status.bytes_read + status.bytes_written == 0 && status.remaining > 0 => {
                    self.is_whole = true;
                    return Err(ends("the file ends inside of a zstd frame"));
                }
                Ok(status) => {
                    raw.consume(status.bytes_read);
                    self.filled.end += status.bytes_written;
                    self.is_whole = status.remaining == 0;
                }
                Err(_) => {
                    self.is_whole = true;
                    return Err(damage("a zstd frame is damaged"));
                }
            },
            Packing::Lz4(decoder) => match decoder.read(out) {
                Ok(n) => {
                    self.filled.end += n;
                    self.is_whole = n == 0;
                }
                Err(error) => {
                    self.is_whole = true;
                    let is_end = error.kind() == io::ErrorKind::UnexpectedEof;
                    return Err(if is_end {
                        ends("the file ends inside of an LZ4 frame")
                    } else {
                        damage("an LZ4 frame is damaged")
                    });
                }
            },
            Packing::Gone => unreachable!("a decoder is put back at once"),
        }
        Ok(())
    }

    /// Goes on behind damage: at the next place where a member begins that unpacks to something. False if there is none.
    pub(super) fn pass_damage(&mut self) -> Result<bool, Broken> {
        let magic: &[u8] = match &self.packing {
            Packing::Plain(_) => return Ok(false),
            Packing::Gzip(..) => &GZIP,
            Packing::Zstd(..) => &ZSTD,
            Packing::Lz4(_) => &LZ4,
            Packing::Gone => unreachable!("a decoder is put back at once"),
        };
        let mut place = self.member + 1;
        loop {
            self.raw().go_to(place)?;
            loop {
                let bytes = self.raw().peek(BUFFER / 2)?;
                if bytes.len() < magic.len() {
                    let n = bytes.len();
                    self.raw().consume(n);
                    self.is_whole = true;
                    return Ok(false);
                }
                if let Some(at) = memchr::memmem::find(bytes, magic) {
                    self.raw().consume(at);
                    break;
                }
                let n = bytes.len() - magic.len() + 1;
                self.raw().consume(n);
            }
            place = self.raw().place() + 1;
            self.renew()?;
            // The bytes of a magic are found in packed data too: a member is what unpacks for a while.
            let begun = self.begin().and_then(|begun| Ok(begun && !self.peek(64)?.is_empty()));
            match begun {
                Ok(true) => return Ok(true),
                Ok(false) | Err(Broken::Damage(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A decoder that knows nothing of what it met.
    fn renew(&mut self) -> io::Result<()> {
        self.packing = match std::mem::replace(&mut self.packing, Packing::Gone) {
            Packing::Zstd(raw, _, dictionary) => {
                let decoder = Decoder::with_dictionary(&dictionary)?;
                Packing::Zstd(raw, decoder, dictionary)
            }
            Packing::Lz4(decoder) => Packing::Lz4(Box::new(FrameDecoder::new(decoder.into_inner()))),
            other => other,
        };
        Ok(())
    }
}

/// Unpacks a gzip member behind its header to the beginning of `out`, if all of it is in `input`, has room and is right: how many bytes
/// it has, packed with its trailer and unpacked.
fn whole_member(whole: &mut Whole, input: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let (read, written) = whole.unpack(input, out)?;
    let trailer = *input.get(read..)?.first_chunk::<8>()?;
    fits(trailer, crc32fast::hash(&out[..written]), written as u32).then_some((read + 8, written))
}

/// The dictionary that a `.warc.zst` begins with, consumed; empty if there is none.
fn zstd_dictionary(raw: &mut Raw) -> io::Result<Vec<u8>> {
    let head = raw.peek(8)?;
    if !head.starts_with(&ZSTD_DICTIONARY) || head.len() < 8 {
        return Ok(Vec::new());
    }
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if length > MAX_DICTIONARY {
        return Ok(Vec::new());
    }
    raw.consume(8);
    let mut dictionary = Vec::with_capacity(length);
    raw.by_ref().take(length as u64).read_to_end(&mut dictionary)?;
    if dictionary.starts_with(&ZSTD) {
        let mut unpacked = Vec::new();
        zstd::stream::read::Decoder::with_buffer(&dictionary[..])?
            .take(MAX_DICTIONARY as u64)
            .read_to_end(&mut unpacked)?;
        return Ok(unpacked);
    }
    Ok(dictionary)
}
