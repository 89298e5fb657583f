use super::*;
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write as _;

const ROWS: &[&str] = &[r#"{"id":1,"t":"a\"]}b"}"#, r#"{"id":2,"t":[{"x":[]}]}"#, r#"{"id":3}"#];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }
}

/// The rows of a file that holds `bytes`: each with its number, or an error.
fn read(bytes: &[u8]) -> Result<Vec<(usize, String)>, String> {
    let folder = Folder::new();
    let path = folder.file("a.jsonl", bytes);
    let text = |row: Result<Row, DataError>| {
        let (place, json) = row.map_err(|error| error.to_string())?;
        let json = json.map_err(|error| format!("{place}: {error}"))?;
        Ok((place.number, String::from_utf8(json).expect("UTF-8").trim().to_owned()))
    };
    Rows::open(&path).map_err(|error| error.to_string())?.map(text).collect()
}

fn numbered(rows: &[&str]) -> Vec<(usize, String)> {
    (1..).zip(rows.iter().map(|row| (*row).to_owned())).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).expect("a Vec takes all");
    out.finish().expect("a Vec takes all")
}

/// A zstd frame that holds `bytes` as they are (RFC 8878): one raw block, no checksum, a window of 1 MiB.
fn zst(bytes: &[u8]) -> Vec<u8> {
    let head = (bytes.len() as u32) << 3 | 1;
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x50][..], &head.to_le_bytes()[..3], bytes].concat()
}

#[test]
fn one_reader_for_lines_arrays_and_objects_however_they_are_written() {
    let lines = ROWS.join("\n");
    let bom = [&b"\xef\xbb\xbf"[..], lines.as_bytes()].concat();
    let pretty = ROWS.join(",\n").replace(',', ",\n  ");
    for text in [
        lines.clone().into_bytes(),
        format!("{lines}\r\n").into_bytes(),
        bom.clone(),
        gz(&bom),
        [gz(ROWS[0].as_bytes()), gz(b"\n"), gz(ROWS[1..].join("\n").as_bytes())].concat(),
        zst(lines.as_bytes()),
        [
            zst(ROWS[0].as_bytes()),
            b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
            zst(format!("\n{}\n{}", ROWS[1], ROWS[2]).as_bytes()),
        ]
        .concat(),
        format!("[{}]", ROWS.join(",")).into_bytes(),
        format!("  [\n{}\n]\n", ROWS.join(" ,\n")).into_bytes(),
        gz(format!("[{}]\n\n", ROWS.join(",\r\n")).as_bytes()),
    ] {
        assert_eq!(read(&text), Ok(numbered(ROWS)), "{}", String::from_utf8_lossy(&text));
    }
    let rows = read(format!("[{pretty}]").as_bytes()).expect("an array");
    assert_eq!(rows.len(), 3);
    let rows = read(b"{\n  \"a\": {\n \"b\": 1}\n}\n{\n \"a\": 2\n}\n").expect("objects that span lines");
    assert_eq!(rows, numbered(&["{\n  \"a\": {\n \"b\": 1}\n}", "{\n \"a\": 2\n}"]));
    assert_eq!(read(b"\n \n[1]\n\n[2, 3]"), Ok(vec![(3, "[1]".to_owned()), (5, "[2, 3]".to_owned())]));
    assert_eq!(read(b"[1, \"two\", null, -3.5e1]"), Ok(numbered(&["1", "\"two\"", "null", "-3.5e1"])));
    for empty in ["", "\n \n", "[]", " [ ]\n", "\u{feff}"] {
        assert_eq!(read(empty.as_bytes()), Ok(vec![]), "{empty:?}");
        let folder = Folder::new();
        let path = folder.file("empty.json", empty.as_bytes());
        let error = read_all(&path.into(), |_, _: Result<u8, _>| Ok(())).expect_err("empty").to_string();
        assert!(error.contains("empty.json is empty"), "{error}");
    }
}

#[test]
fn a_cut_or_damaged_file_is_an_error_that_says_where() {
    for (bytes, expected) in [
        (b"[{\"a\": 1}, {\"a\"".to_vec(), "after 1 rows: at byte 15, the file ends within a row: it is cut"),
        (b"[{\"a\": 1}".to_vec(), "after 1 rows: at byte 9, the file ends before its array does"),
        (b"[{\"a\": 1} {\"a\": 2}]".to_vec(), "there is no comma after a row"),
        (b"[{\"a\": 1},]".to_vec(), "a row is missing"),
        (b"[1]]".to_vec(), "something follows the array"),
        (gz(b"{\"a\": 1}\n")[..20].to_vec(), "fetch or write the file again"),
        (zst(b"{\"a\": 1}\n")[..12].to_vec(), "zstd: "),
    ] {
        let error = read(&bytes).expect_err(expected);
        assert!(error.contains("a.jsonl, ") && error.contains(expected), "{error}");
    }
    for whole in [gz(ROWS.join("\n").as_bytes()), zst(ROWS.join("\n").as_bytes())] {
        for cut in 4..whole.len() - 1 {
            assert!(read(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
        }
    }
}

#[test]
fn what_is_not_read_is_named_with_what_to_do() {
    for (bytes, expected) in [
        (&b"\xff\xfe{\0}\0"[..], "is in UTF-16; make UTF-8 of it: iconv -f UTF-16"),
        (b"\xfe\xff\0{\0}", "is in UTF-16"),
        (b"{\0}\0", "is in UTF-16; make UTF-8 of it: iconv -f UTF-16LE"),
        (b"\0[\0]", "iconv -f UTF-16BE"),
        (b"\xff\xfe\0\0{\0\0\0", "is in UTF-32"),
        (b"PK\x03\x04abc", "is a ZIP archive; unpack it first: unzip"),
        (b"\x80\x04\x95", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"ARROW1\0\0", "is an Arrow file"),
        (b"PAR1", "too short for Parquet"),
        (b"PAR1 and something else", "does not end as Parquet does"),
    ] {
        let error = read(bytes).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let folder = Folder::new();
    let error = Rows::open(folder.0.path()).err().expect("a folder").to_string();
    assert!(error.contains("is a folder; name its files"), "{error}");
    let csv = folder.file("a.csv", b"a,b\n1,2\n");
    assert!(Rows::open(&csv).err().expect("CSV").to_string().contains("read_csv"));
}

#[test]
fn what_expands_without_measure_is_refused() {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    let lines = vec![b' '; 1 << 20];
    (0..100).for_each(|_| out.write_all(&lines).expect("a Vec takes all"));
    let bomb = out.finish().expect("a Vec takes all");
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let folder = Folder::new();
    let path = folder.file("bomb.jsonl", &bomb);
    let error = read_text(&path, 1 << 40).expect_err("too much").to_string();
    assert!(error.contains("expands to more than"), "{error}");
    assert!(read(&bomb).expect_err("long").contains("longer than"), "a line is bounded");
    assert!(read_text(&path, 5).expect_err("large").to_string().contains("cannot read"));
}

#[test]
fn files_are_names_and_patterns_in_order() {
    let folder = Folder::new();
    for name in ["a2.jsonl", "a1.jsonl", "b.jsonl", "x[1].jsonl"] {
        folder.file(name, name.as_bytes());
    }
    let at = |name: &str| folder.0.path().join(name);
    let paths = |names: &[&str]| {
        let names: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
        DataFiles::from(names).paths().map_err(|error| error.to_string())
    };
    assert_eq!(paths(&["b.jsonl", "a*.jsonl"]), Ok(vec![at("b.jsonl"), at("a1.jsonl"), at("a2.jsonl")]));
    assert_eq!(paths(&["x[1].jsonl"]), Ok(vec![at("x[1].jsonl")]), "a file of that very name");
    assert!(paths(&["c*"]).expect_err("none").ends_with("c*`: matches no file"));
    assert!(paths(&["a1.jsonl", "a?.jsonl"]).expect_err("twice").contains("a1.jsonl is named twice"));
    assert!(paths(&[]).expect_err("none").contains("no file is named"));

    let one: DataFiles = serde_json::from_str(r#""a""#).expect("a name");
    let many: DataFiles = serde_json::from_str(r#"["a", "b*"]"#).expect("a list");
    assert_eq!((one.to_string(), many.to_string()), ("a".to_owned(), "a, b*".to_owned()));
    let one: DataFiles = at("b.jsonl").into();
    assert_eq!(one.hash().expect("read"), koan_files::sha256("b.jsonl"));
    let both = DataFiles::from(vec![at("a*.jsonl")]);
    let hashes = ["a1.jsonl", "a2.jsonl"].map(koan_files::sha256).join("\n");
    assert_eq!(both.hash().expect("read"), koan_files::sha256(hashes));
}

#[test]
fn errors_name_the_field_and_its_type() {
    let folder = Folder::new();
    for (row, expected) in [
        (
            r#"{"prompt": [{"role": "user", "content": "p"}], "answer": "1"}"#,
            "`prompt` is a list of messages; rename it `messages`",
        ),
        (r#"{"prompt": ["p"], "answer": "1"}"#, "`prompt` is a list of strings; write a string"),
        (r#"{"prompt": 7, "answer": "1"}"#, "`prompt` is the number 7; write a string"),
        (r#"{"prompt": "p", "answer": null}"#, "`answer` is null; write a string or a number"),
        (r#"{"prompt": "p", "answer": ["1"]}"#, "`answer` is a list of strings"),
        (r#"{"messages": "p", "answer": "1"}"#, "`messages` is a string; use `prompt`"),
        (r#"{"messages": [{"role": "user"}], "answer": "1"}"#, "`messages[0]` has no `content`"),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "text"}]}]}"#,
            "`messages[0].content` is a list of objects; write a string",
        ),
        (r#"{"messages": [{"from": "human", "value": "p"}]}"#, "as ShareGPT has them"),
        (r#"{"prompt": "p", "answer": "1", "meta": "m"}"#, "`meta` is a string; write an object"),
        (r#"["p", "1"]"#, "the row is a list of strings; write an object"),
        ("7", "the row is the number 7"),
    ] {
        let path =
            folder.file("a.jsonl", format!("{{\"prompt\": \"p\", \"answer\": 1}}\n{row}\n").as_bytes());
        let error = crate::read_problems(&path.into()).expect_err(row).to_string();
        assert!(error.contains("a.jsonl:2: ") && error.contains(expected), "{row}: {error}");
    }
}
