//! Deflate (RFC 1951) and what is around it in gzip (RFC 1952) and zlib (RFC 1950).

use crc32fast::Hasher;
use zlib_rs::{Inflate, InflateFlush, Status};

/// The first bytes of a gzip member: the magic, and deflate.
pub(super) const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// A gzip header with longer fields is none of ours.
pub(super) const MAX_HEADER: usize = 64 << 10;

/// The length of the gzip header that `bytes` begin with; none if there is none, or more bytes are needed.
pub(super) fn gzip_header(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(3)?;
    if !bytes.starts_with(&GZIP) || flags & 0xe0 != 0 {
        return None;
    }
    let mut end = 10;
    if flags & 4 != 0 {
        let length = bytes.get(end..end + 2)?;
        end += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            end += memchr::memchr(0, bytes.get(end..)?)? + 1;
        }
    }
    end += if flags & 2 != 0 { 2 } else { 0 };
    (end <= bytes.len()).then_some(end)
}

/// How far unpacking came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wants more input or room.
    More,
    /// The end of the deflate stream.
    End,
    /// What is no deflate.
    Damaged,
}

/// The unpacker of a stream of deflate, which knows the CRC-32 and the length of what came out of it.
pub(super) struct Inflater {
    inflate: Inflate,
    crc: Hasher,
    length: u32,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self { inflate: Inflate::new(false, 15), crc: Hasher::new(), length: 0 }
    }

    /// Begins another stream.
    pub(super) fn reset(&mut self) {
        self.inflate.reset(false);
        (self.crc, self.length) = (Hasher::new(), 0);
    }

    /// Unpacks some of `input` into `out`: bytes read, bytes written, and how far it came.
    pub(super) fn run(&mut self, input: &[u8], out: &mut [u8]) -> (usize, usize, Step) {
        let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, out, InflateFlush::NoFlush);
        let (read, written) =
            ((self.inflate.total_in() - read) as usize, (self.inflate.total_out() - written) as usize);
        self.crc.update(&out[..written]);
        self.length = self.length.wrapping_add(written as u32);
        let step = match status {
            Ok(Status::StreamEnd) => Step::End,
            Ok(Status::Ok | Status::BufError) => Step::More,
            Err(_) => Step::Damaged,
        };
        (read, written, step)
    }

    /// Whether a gzip member's last eight bytes fit what came out.
    pub(super) fn fits(&self, trailer: [u8; 8]) -> bool {
        fits(trailer, self.crc.clone().finalize(), self.length)
    }
}

/// Whether a gzip member's last eight bytes say this checksum and length.
pub(super) fn fits(trailer: [u8; 8], crc: u32, length: u32) -> bool {
    let [a, b, c, d, e, f, g, h] = trailer;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])) == (crc, length)
}

/// What is packed by deflate in memory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unpacked {
    pub(super) bytes: Vec<u8>,
    /// Whether its end is missing: cut, damaged behind this, or longer than the limit.
    pub(super) is_cut: bool,
}

/// A body packed by gzip, zlib or bare deflate, to at most `limit` bytes; none if it is none of them. What comes before damage is kept.
pub(super) fn inflate(packed: &[u8], limit: usize) -> Option<Unpacked> {
    if let Some(header) = gzip_header(packed) {
        return inflate_raw(&packed[header..], limit);
    }
    let is_zlib = packed.len() > 2
        && packed[0] & 15 == 8
        && packed[1] & 32 == 0
        && u16::from_be_bytes([packed[0], packed[1]]).is_multiple_of(31);
    let zlib = is_zlib.then(|| inflate_raw(&packed[2..], limit)).flatten();
    zlib.or_else(|| inflate_raw(packed, limit).filter(|unpacked| !unpacked.is_cut))
}

fn inflate_raw(mut packed: &[u8], limit: usize) -> Option<Unpacked> {
    let mut inflater = Inflater::new();
    let mut bytes = vec![0; (packed.len() * 4).clamp(1024, limit.max(1))];
    let mut n = 0;
    let is_cut = loop {
        if n == bytes.len() {
            if n >= limit {
                break true;
            }
            bytes.resize((n * 2).min(limit), 0);
        }
        let (read, written, step) = inflater.run(packed, &mut bytes[n..]);
        packed = &packed[read..];
        n += written;
        match step {
            Step::End => break false,
            Step::Damaged => break true,
            Step::More if read == 0 && written == 0 => break true,
            Step::More => {}
        }
    };
    bytes.truncate(n);
    (n > 0 || !is_cut).then_some(Unpacked { bytes, is_cut })
}
