//! Extracts HTML files: for each `PAGE.html` a `PAGE.html.txt` in a folder, and a row of `pages.jsonl` there.
//!
//!     cargo run --release -p koan-mine --example extract -- OUT PAGE.html…
//!
//! `PAGE.html.type`, if it is there, is the Content-Type that the server declared. `bench/peers/mine_extraction.py` marks what comes out.

use std::{fs, path::Path};

use koan_mine::{
    extract::{Hints, Limits, extract},
    language,
};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (out, pages) = arguments.split_first().ok_or("give a folder and HTML files")?;
    let out = Path::new(out);
    fs::create_dir_all(out)?;
    let mut rows = Vec::new();
    for page in pages {
        let html = fs::read(page)?;
        let content_type = fs::read_to_string(format!("{page}.type")).ok();
        let hints = Hints { content_type: content_type.as_deref(), url: "" };
        let name = Path::new(page).file_name().ok_or("a page has a name")?.to_string_lossy();
        let row = match extract(&html, &hints, &Limits::default()) {
            Ok(page) => {
                fs::write(out.join(format!("{name}.txt")), &page.text)?;
                json!({"name": name, "language": language::identify(&page.text).code, "charset": page.charset, "formulas": page.formulas})
            }
            Err(skip) => json!({"name": name, "skip": skip}),
        };
        rows.push(format!("{row}\n"));
    }
    fs::write(out.join("pages.jsonl"), rows.concat())?;
    Ok(())
}
