//! Files: written whole or not at all, hashed, read with a bound, and JSON Lines.
//!
//! - [`NewFile`], [`replace`]: a file written beside its place, synced and renamed,
//! - [`remove_unfinished`]: what a program does that must end while it writes them,
//! - [`write_directory`], [`rename`]: the same for directories; [`write_synced`]: a file inside of one,
//! - [`sha256`], [`hash_file`], [`hash_files`], [`Hashed`]: SHA-256 of bytes, of files, and of what is being written,
//! - [`checksums`]: the list of the hashes of a directory's files,
//! - [`open`], [`open_stream`], [`Limited`]: a file opened to be read, if it is one; [`read_bounded`]: read whole, if it is not too large,
//! - [`jsonl`]: JSON Lines, read with a bound and written.
#![forbid(unsafe_code)]

mod bounded;
pub mod checksums;
mod directory;
mod error;
mod hash;
pub mod jsonl;
mod new_file;
mod open;
mod unfinished;

pub use bounded::read_bounded;
pub use directory::{rename, write_directory, write_synced};
pub use error::FilesError;
pub use hash::{Hashed, digest, hash_file, hash_files, hex, sha256};
pub use new_file::{NewFile, replace};
pub use open::{Limited, MAX_STREAM_BYTES, open, open_stream, read_text};
pub use unfinished::remove_unfinished;
