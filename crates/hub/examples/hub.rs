//! A hub in small, for peers: serves until standard input ends, with the token `hf_test`; prints its address.
//!
//! ```sh
//! cargo run -p koan-hub --example hub
//! ```

#[path = "../tests/server/mod.rs"]
mod server;

use std::io::Read;

use server::{Manners, Server};

fn main() {
    let token = std::env::var("HF_TOKEN").unwrap_or_else(|_| "hf_test".to_owned());
    let part_bytes = std::env::args().nth(1).and_then(|bytes| bytes.parse().ok());
    let server = Server::start(Manners { token, part_bytes, ..Manners::default() });
    println!("{}", server.endpoint);
    let _ = std::io::stdin().read_to_end(&mut Vec::new()); // its end is all that is waited for
}
