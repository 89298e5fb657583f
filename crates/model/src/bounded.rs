//! Files read whole, if they are not too large.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The bytes of a file, or `None` if they are more than `limit`. What a file says of its length is not believed: that of a
/// device is 0.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
