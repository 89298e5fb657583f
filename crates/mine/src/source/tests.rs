//! Files written here with the mistakes that crawls have.

use std::{fs, io::Write as _};

use super::*;
use crate::config;

/// A record of this type with these further headers.
fn record(kind: &str, url: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body, b"\r\n\r\n"].concat()
}

fn http(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn page(n: usize) -> Vec<u8> {
    let noise: String = (0..200).map(|i| char::from(b'a' + ((i * 7919 + n * 31) % 25) as u8)).collect();
    format!("<html><body><p>Page {n} {noise}</p></body></html>").into_bytes()
}

fn response(n: usize) -> Vec<u8> {
    record("response", &format!("http://example.com/{n}"), "", &http("", &page(n)))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut deflated = vec![0; bytes.len() + 100];
    let config = zlib_rs::DeflateConfig { window_bits: 31, ..zlib_rs::DeflateConfig::default() };
    let (packed, code) = zlib_rs::compress_slice(&mut deflated, bytes, config);
    assert_eq!(code, zlib_rs::ReturnCode::Ok);
    packed.to_vec()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).expect("packed")
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut packed = lz4_flex::frame::FrameEncoder::new(Vec::new());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

/// The numbers of the pages in a file, and why others are skipped.
fn read(bytes: &[u8]) -> (Vec<String>, Vec<Reason>) {
    let (pages, skipped) = items(bytes, &config::Read::default());
    (
        pages.into_iter().map(|page| page.url.rsplit('/').next().unwrap_or_default().to_owned()).collect(),
        skipped,
    )
}

fn items(bytes: &[u8], options: &config::Read) -> (Vec<Page>, Vec<Reason>) {
    let folder = tempfile::tempdir().expect("a folder");
    // The name says nothing true.
    let path = folder.path().join("file.warc.gz.bad");
    fs::write(&path, bytes).expect("written");
    let mut reader = Reader::open(&path, options).expect("opened");
    let (mut pages, mut skipped) = (Vec::new(), Vec::new());
    for _ in 0..10_000 {
        match reader.next().expect("read") {
            Some(Item::Page(page)) => pages.push(page),
            Some(Item::Skipped(what)) => skipped.push(what.reason),
            None => {
                assert_eq!(reader.next().expect("read"), None, "the end stays the end");
                let digest = reader.digest().expect("read");
                assert_eq!(digest, format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes)));
                return (pages, skipped);
            }
        }
    }
    panic!("a reader without end");
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn whatever_it_is_packed_in_a_file_has_the_same_pages() {
    let records: Vec<Vec<u8>> = (0..5).map(response).collect();
    let plain = records.concat();
    let each =
        |pack: fn(&[u8]) -> Vec<u8>| records.iter().flat_map(|record| pack(record)).collect::<Vec<u8>>();
    let halves = [gzip(&plain[..700]), gzip(&plain[700..])].concat();
    for bytes in
        [plain.clone(), each(gzip), each(zstd), each(lz4), gzip(&plain), zstd(&plain), lz4(&plain), halves]
    {
        assert_eq!(read(&bytes), (names(0..5), vec![]));
    }
    let crawl = each(gzip);
    let (pages, _) = items(&crawl, &config::Read::default());
    assert_eq!(pages[2].payload, page(2));
    let at = records[..2].iter().map(|record| gzip(record).len() as u64).sum::<u64>();
    assert_eq!(pages[2].offset, at, "where the member begins");
    let (pages, _) = items(&plain, &config::Read::default());
    assert_eq!(pages[2].offset, records[..2].iter().map(|record| record.len() as u64).sum::<u64>());
    assert_eq!(read(b""), (vec![], vec![]));
}

#[test]
fn members_that_are_long_or_lie_across_buffers_are_read_as_others() {
    // Letters that hardly pack.
    let noise = |seed: u64, n: usize| -> Vec<u8> {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut letter = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            b'0' + (x % 64) as u8
        };
        (0..n).map(|_| letter()).collect()
    };
    let sizes = (0..700).map(|n| if n % 300 == 150 { 1_500_000 } else { 1000 + n * 3 });
    let bodies: Vec<Vec<u8>> = sizes.enumerate().map(|(n, size)| noise(n as u64, size)).collect();
    let members = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| gzip(&record("response", &format!("http://example.com/{n}"), "", &http("", body))));
    let crawl: Vec<u8> = members.flatten().collect();
    assert!(crawl.len() > 3 << 20, "many times what is held of a file at a time");
    let (pages, skipped) = items(&crawl, &config::Read::default());
    assert_eq!((pages.len(), skipped.len()), (bodies.len(), 0));
    assert!(pages.iter().zip(&bodies).all(|(page, body)| page.payload == *body && !page.is_cut));
}

#[test]
fn a_dictionary_in_front_of_zstd_frames_is_used() {
    let dictionary = response(7);
    let mut bytes =
        [&[0x5d, 0x2a, 0x4d, 0x18][..], &(dictionary.len() as u32).to_le_bytes(), &dictionary].concat();
    let mut encoder = zstd::bulk::Compressor::with_dictionary(3, &dictionary).expect("a compressor");
    for n in 0..3 {
        bytes.extend(encoder.compress(&response(n)).expect("packed"));
    }
    assert_eq!(read(&bytes), (names(0..3), vec![]));
}

#[test]
fn a_file_cut_anywhere_gives_what_is_whole_and_says_so() {
    let records: Vec<Vec<u8>> = (0..3).map(response).collect();
    for pack in [gzip, zstd, lz4, |bytes: &[u8]| bytes.to_vec()] {
        let packed: Vec<u8> = records.iter().flat_map(|record| pack(record)).collect();
        let whole: Vec<usize> =
            (0..=3).map(|n| records[..n].iter().map(|record| pack(record).len()).sum()).collect();
        for cut in (1..packed.len()).filter(|cut| *cut > whole[2] + 8 || cut % 7 == 0) {
            if cut < 4 {
                continue; // too little to tell what it is
            }
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("cut");
            fs::write(&path, &packed[..cut]).expect("written");
            if Reader::open(&path, &config::Read::default()).is_err() {
                assert!(cut < whole[1], "only a file without a record is none");
                continue;
            }
            let (pages, skipped) = items(&packed[..cut], &config::Read::default());
            let n = whole.iter().filter(|end| **end <= cut).count() - 1;
            assert!(pages.len() >= n && pages[..n].iter().all(|page| !page.is_cut), "{cut}");
            assert!(
                pages.len() <= n + 1 && pages[n..].iter().all(|page| page.is_cut)
                    || !skipped.is_empty()
                    || cut + 8 > whole[n + 1],
                "{cut}"
            );
            if cut > whole[2] + 150 && cut + 60 < packed.len() {
                assert!(!skipped.is_empty(), "{cut} of {} bytes: {skipped:?}", packed.len());
            }
        }
    }
}

#[test]
fn behind_damage_reading_goes_on_at_the_next_member() {
    for pack in [gzip, zstd, lz4] {
        let members: Vec<Vec<u8>> = (0..6).map(|n| pack(&response(n))).collect();
        for damaged in [0, 2, 5] {
            let mut all = members.clone();
            let middle = all[damaged].len() / 2;
            all[damaged][middle..middle + 9].iter_mut().for_each(|byte| *byte ^= 0x5a);
            let (pages, skipped) = read(&all.concat());
            let mut wanted = names(0..6);
            // Where nothing is checked, damage can leave a page that looks whole.
            if pages.len() < 6 {
                wanted.remove(damaged);
                assert!(!skipped.is_empty());
            }
            assert_eq!(pages, wanted, "{damaged}: {skipped:?}");
        }
    }
    let bytes =
        [gzip(&response(0)), vec![9; 500], gzip(&response(1)), vec![0; 64], gzip(&response(2)), vec![7; 3]]
            .concat();
    assert_eq!(read(&bytes), (names(0..3), vec![Reason::Damaged, Reason::Damaged]));
}

#[test]
fn lengths_that_are_wrong_cost_at_most_their_record() {
    let wrong = |n: usize, by: i64| {
        let good = String::from_utf8(response(n)).expect("text");
        let length =
            good.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next()).expect("a length");
        let other = length.parse::<i64>().expect("a number") + by;
        good.replacen(&format!("Content-Length: {length}"), &format!("Content-Length: {other}"), 1)
            .into_bytes()
    };
    for by in [-100, -3, 1, 5, 40, 300, 1_000_000_000] {
        for pack in [gzip, |bytes: &[u8]| bytes.to_vec()] {
            let bytes =
                [pack(&response(0)), pack(&wrong(1, by)), pack(&response(2)), pack(&response(3))].concat();
            let (pages, skipped) = read(&bytes);
            assert_eq!(pages, names(0..4), "{by}");
            assert!(skipped == [Reason::Length] || (0..=4).contains(&by) || by == -3, "{by}: {skipped:?}");
        }
    }
    let headless = b"WARC/1.0\r\nWARC-Type: response\r\n\r\nbody\r\n\r\n".to_vec();
    let endless = [&b"WARC/1.0\r\n"[..], &vec![b'a'; 100_000]].concat();
    for bad in [headless, endless] {
        for pack in [gzip, |bytes: &[u8]| bytes.to_vec()] {
            let bytes =
                [pack(&response(0)), pack(&bad), pack(&[&b"\r\n"[..], &response(1)].concat())].concat();
            let (pages, skipped) = read(&bytes);
            assert_eq!(pages, names(0..2));
            // In a plain file a head that does not end runs into the next, which is then read as its own.
            assert!(skipped == [Reason::Head] || bad.len() > 1000 && skipped.is_empty(), "{skipped:?}");
        }
    }
}

#[test]
fn bodies_are_unpacked_whatever_is_declared() {
    let html = page(1);
    let mut deflated = vec![0; 1000];
    let raw = zlib_rs::DeflateConfig { window_bits: -15, ..zlib_rs::DeflateConfig::default() };
    let deflated = zlib_rs::compress_slice(&mut deflated, &html, raw).0.to_vec();
    let mut zlib = vec![0; 1000];
    let zlib = zlib_rs::compress_slice(&mut zlib, &html, zlib_rs::DeflateConfig::default()).0.to_vec();
    let chunks = |body: &[u8]| {
        let (a, b) = body.split_at(body.len() / 3);
        [
            format!("{:x};x=1\r\n", a.len()).as_bytes(),
            a,
            format!("\r\n{:X}\r\n", b.len()).as_bytes(),
            b,
            b"\r\n0\r\n\r\n",
        ]
        .concat()
    };
    // `<html>one</html>` by Brotli's reference encoder.
    let brotli = [
        0x8b, 0x07, 0x80, 0x3c, 0x68, 0x74, 0x6d, 0x6c, 0x3e, 0x6f, 0x6e, 0x65, 0x3c, 0x2f, 0x68, 0x74, 0x6d,
        0x6c, 0x3e, 0x03,
    ];
    let one = b"<html>one</html>".to_vec();
    for (headers, body, wanted) in [
        ("Content-Encoding: gzip\r\n", gzip(&html), &html),
        ("content-encoding:x-gzip\r\n", gzip(&html), &html),
        ("Content-Encoding: deflate\r\n", zlib, &html),
        ("Content-Encoding: deflate\r\n", deflated, &html),
        ("Content-Encoding: zstd\r\n", zstd(&html), &html),
        ("Content-Encoding: br\r\n", brotli.to_vec(), &one),
        ("Content-Encoding: gzip\r\n", html.clone(), &html),
        ("Content-Encoding: br\r\n", html.clone(), &html),
        ("Content-Encoding: zstd\r\n", html.clone(), &html),
        ("Content-Encoding: deflate\r\n", html.clone(), &html),
        ("Content-Encoding: UTF-8, none\r\n", html.clone(), &html),
        ("Content-Encoding: deflate, gzip\r\n", gzip(&gzip(&html)), &html),
        ("X-Crawler-Content-Encoding: gzip\r\n", html.clone(), &html),
        ("X-Crawler-Content-Encoding: gzip\r\n", gzip(&html), &html),
        ("", gzip(&html), &html),
        ("Transfer-Encoding: chunked\r\n", chunks(&html), &html),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", chunks(&gzip(&html)), &html),
        ("Transfer-Encoding: chunked\r\n", html.clone(), &html),
    ] {
        let file = record("response", "http://example.com/", "", &http(headers, &body));
        let (pages, skipped) = items(&file, &config::Read::default());
        assert_eq!((pages.len(), skipped.len()), (1, 0), "{headers}");
        assert_eq!((&pages[0].payload, pages[0].is_cut), (wanted, false), "{headers}");
    }
    // Cut by the crawler: what is there is kept, and the page is marked.
    let packed = gzip(&html);
    let file = record(
        "response",
        "http://example.com/",
        "WARC-Truncated: length\r\n",
        &http("Content-Encoding: gzip\r\n", &packed[..packed.len() * 2 / 3]),
    );
    let (pages, _) = items(&file, &config::Read::default());
    assert!(html.starts_with(&pages[0].payload) && pages[0].is_cut);
    let lying = [&b"5\r\n<html\r\nFFFF\r\n>rest"[..]].concat();
    let (pages, _) = items(
        &record("response", "u", "", &http("Transfer-Encoding: chunked\r\n", &lying)),
        &config::Read::default(),
    );
    assert_eq!((&*pages[0].payload, pages[0].is_cut), (&b"<html>rest"[..], true));
    let bomb = gzip(&vec![b' '; 3 << 20].iter().copied().chain(*b"<p>").collect::<Vec<u8>>());
    let options = config::Read { max_page_bytes: 4096, ..config::Read::default() };
    let file =
        [record("response", "u", "", &http("Content-Encoding: gzip\r\n", &bomb)), response(1)].concat();
    let (pages, skipped) = items(&file, &options);
    assert_eq!((pages.len(), skipped), (1, vec![Reason::Empty]), "an unpacked page is bounded");
}

#[test]
fn what_is_no_page_is_skipped_and_counted() {
    use Reason::{Conversion, Empty, NotHtml, Revisit, Status};
    let moved = b"HTTP/1.1 301 Moved\r\nContent-Type: text/html\r\n\r\n<html></html>";
    let pdf = b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n%PDF-1.4";
    let odd = b"HTTP/1.0 200\nServer: x\n\n<!DOCTYPE html><p>old line ends, no type</p>";
    let file = [
        record("warcinfo", "", "", b"software: x\r\n"),
        record("request", "http://example.com/", "", b"GET / HTTP/1.1\r\n\r\n"),
        record("response", "http://example.com/1", "", moved),
        record("response", "http://example.com/2", "WARC-Identified-Payload-Type: application/pdf\r\n", pdf),
        record("response", "<http://example.com/3>", "", odd),
        record("revisit", "http://example.com/4", "", b"HTTP/1.1 200 OK\r\n\r\n"),
        record("conversion", "http://example.com/5", "Content-Type: text/plain\r\n", b"text"),
        record("resource", "http://example.com/6", "Content-Type: text/html\r\n", b"<p>saved</p>"),
        record("resource", "http://example.com/7", "Content-Type: image/png\r\n", b"\x89PNG"),
        record("response", "http://example.com/8", "", &http("", b"")),
        record("response", "http://example.com/9", "", b"<html>a body without a head</html>"),
    ]
    .concat();
    let (pages, skipped) = items(&file, &config::Read::default());
    let urls: Vec<&str> = pages.iter().map(|page| page.url.as_str()).collect();
    assert_eq!(urls, ["http://example.com/3", "http://example.com/6", "http://example.com/9"]);
    assert_eq!(skipped, [Status, NotHtml, Revisit, Conversion, NotHtml, Empty]);
}

#[test]
fn texts_of_wet_files_and_rows_are_pages_of_text() {
    let wet = [
        record("warcinfo", "", "", b"software: x\r\n"),
        record("conversion", "http://example.com/1", "Content-Type: text/plain\r\n", "Zahl π".as_bytes()),
    ]
    .concat();
    let (pages, _) = items(&gzip(&wet), &config::Read::default());
    assert_eq!((pages[0].form, &*pages[0].payload), (Form::Text, "Zahl π".as_bytes()));
    let options = config::Read { conversions: config::Conversions::Skip, ..config::Read::default() };
    assert_eq!(items(&wet, &options).1, [Reason::Conversion]);
    let rows = b"{\"text\": \"one\", \"url\": \"http://example.com/1\"}\n\n{\"id\": 7, \"text\": \"two\", \"metadata\": {\"url\": \"http://example.com/2\"}}\n{\n{\"a\": 1}\n{\"html\": \"<p>three</p>\", \"url\": \"http://example.com/3\"}";
    for bytes in [rows.to_vec(), gzip(rows), zstd(rows), [gzip(&rows[..50]), gzip(&rows[50..])].concat()] {
        let (pages, skipped) = items(&bytes, &config::Read::default());
        assert_eq!(
            pages.iter().map(|page| page.form).collect::<Vec<_>>(),
            [Form::Text, Form::Text, Form::Html]
        );
        assert_eq!((pages[1].url.as_str(), pages[1].offset), ("http://example.com/2", 48));
        assert_eq!(skipped, [Reason::Json, Reason::NoText]);
    }
    let cut = gzip(rows);
    let (pages, skipped) = items(&cut[..cut.len() - 30], &config::Read::default());
    assert!(!pages.is_empty() && skipped.contains(&Reason::FileEnds));
}

#[test]
fn other_kinds_of_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.warc.gz");
    for (bytes, wanted) in [
        (gzip(b"filedesc://a.arc 0.0.0.0 20100101 text/plain 76\n1 0 x\n"), "ARC"),
        (b"[{\"text\": \"a\"}]".to_vec(), "a JSON array"),
        (b"PAR1....".to_vec(), "Parquet"),
        (b"BZh91AY".to_vec(), "bzip2"),
        (b"<html>".to_vec(), "HTML"),
        (b"hello".to_vec(), "neither"),
    ] {
        fs::write(&path, bytes).expect("written");
        let Err(error) = Reader::open(&path, &config::Read::default()) else { panic!("{wanted} was opened") };
        assert!(error.to_string().contains(wanted) && error.to_string().contains("file.warc.gz"), "{error}");
    }
    assert!(matches!(
        Reader::open(&folder.path().join("none"), &config::Read::default()),
        Err(MineError::Read { .. })
    ));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Whatever bytes are flipped, put in or taken out, reading ends, and what the damage does not touch is read.
    #[test]
    fn damage_of_any_kind_ends(
        seed in 0..4usize,
        edits in proptest::collection::vec((0..4000usize, 0..=255u8, 0..3u8), 1..12),
    ) {
        let pack = [gzip, zstd, lz4, |bytes: &[u8]| bytes.to_vec()][seed];
        let mut bytes: Vec<u8> = (0..8).flat_map(|n| pack(&response(n))).collect();
        for (at, byte, how) in edits {
            let at = 16 + at % (bytes.len() - 16);
            match how {
                0 => bytes[at] ^= byte | 1,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        let _ = read(&bytes);
    }
}
