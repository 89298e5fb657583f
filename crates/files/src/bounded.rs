//! Files read whole, if they are not too large.

use std::{
    io::{self, Read},
    path::Path,
};

use crate::open;

/// The bytes of a file, or `None` if they are more than `limit`. The length that a file reports is not trusted: that of
/// some is 0.
///
/// # Errors
/// If it can't be read.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_whatever_its_length_claims() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("five");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read_bounded(&path, 5).expect("read"), Some(b"12345".to_vec()));
        assert_eq!(read_bounded(&path, 4).expect("read"), None);
        assert!(read_bounded(Path::new("/dev/zero"), 1 << 10).is_err());
        assert_eq!(
            read_bounded(&folder.path().join("none"), 5).expect_err("absent").kind(),
            io::ErrorKind::NotFound
        );
    }
}
