//! Pushes to a hub in small, which misbehaves as each test asks.

mod server;

use std::{fs, path::Path};

use koan_hub::{Hub, HubError, Push, Pushed};
use server::{Manners, Server};

const TOKEN: &str = "hf_secret";

fn manners() -> Manners {
    Manners { token: TOKEN.to_owned(), ..Manners::default() }
}

/// A directory of a model with weights of 40,000 bytes.
fn model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("written");
    put("config.json", b"{}");
    put("tokenizer.json", "{\"a\": \"数\"}".as_bytes());
    put("README.md", b"---\nlicense: mit\n---\n# Model\n");
    put("model.safetensors", &(0..10_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    put("optimizer.safetensors", b"not a part of it");
    dir
}

fn push_to(
    server: &Server,
    dir: &Path,
    token: Option<&str>,
    change: impl Fn(&mut Push),
) -> Result<Pushed, HubError> {
    let hub = Hub::new(&server.endpoint, token.map(str::to_owned))?;
    let mut push = Push { name: "org/tiny", branch: "main", dir, private: false, message: "First" };
    change(&mut push);
    let mut last = 0;
    hub.push(&push, &mut |progress| {
        assert!(progress.done <= progress.of, "{progress:?}");
        last = progress.done;
    })
}

fn push(server: &Server, dir: &Path) -> Result<Pushed, HubError> {
    push_to(server, dir, Some(TOKEN), |_| {})
}

/// Whether the hub has the model as it is in `dir`.
fn assert_there(server: &Server, branch: &str, dir: &Path) {
    let files = server.files("org/tiny", branch);
    let names: Vec<&str> = files.keys().map(|name| &**name).collect();
    assert_eq!(names, ["README.md", "config.json", "model.safetensors", "tokenizer.json"]);
    for (name, held) in &files {
        assert_eq!(held.bytes, fs::read(dir.join(name)).expect(name), "{name}");
        assert_eq!(held.is_large, name == "model.safetensors", "{name}");
    }
}

#[test]
fn a_model_is_pushed_in_one_commit_and_what_is_there_is_not_sent_again() {
    let (server, dir) = (Server::start(manners()), model());
    let first = push_to(&server, dir.path(), Some(TOKEN), |push| push.private = true).expect("pushed");
    assert_there(&server, "main", dir.path());
    assert_eq!(
        (first.files.len(), first.bytes, &first.left_out[..]),
        (4, 40_000, &["optimizer.safetensors".to_owned()][..])
    );
    let commit = first.commit.expect("a commit");
    assert!(commit.starts_with(&format!("{}/org/tiny/commit/", server.endpoint)), "{commit}");
    assert!(server.store().private.contains("org/tiny"));
    // The token goes to the hub, and not where large files go.
    for (method, path, has_token) in &server.store().log {
        assert_eq!(*has_token, !path.starts_with("/lfs/"), "{method} {path}");
    }

    let again = push(&server, dir.path()).expect("pushed");
    assert_eq!((again.commit, again.unchanged.len(), again.bytes), (None, 4, 0));
    fs::write(dir.path().join("config.json"), "{\"a\": 1}").expect("written");
    let third = push_to(&server, dir.path(), Some(TOKEN), |push| push.message = "Third").expect("pushed");
    assert_eq!((&third.files[..], third.bytes), (&["config.json".to_owned()][..], 0));
    assert_eq!(server.store().commits.last(), Some(&("Third".to_owned(), vec!["config.json".to_owned()])));
    assert_there(&server, "main", dir.path());
}

#[test]
fn a_branch_is_made() {
    let (server, dir) = (Server::start(manners()), model());
    for _ in 0..2 {
        push_to(&server, dir.path(), Some(TOKEN), |push| push.branch = "runs/1").expect("pushed");
        assert_there(&server, "runs/1", dir.path());
    }
    assert!(server.files("org/tiny", "main").is_empty());
    assert_eq!(server.store().commits.len(), 1);
}

#[test]
fn large_files_are_sent_in_parts_where_the_hub_asks_for_it() {
    let (server, dir) = (Server::start(Manners { part_bytes: Some(15_000), ..manners() }), model());
    push(&server, dir.path()).expect("pushed");
    assert_there(&server, "main", dir.path());
    let parts = server.store().log.iter().filter(|(method, _, _)| method == "PUT").count();
    assert_eq!(parts, 3);
}

#[test]
fn failures_that_may_pass_are_tried_again_and_a_broken_push_goes_on() {
    for (failures, breaks, part_bytes) in [(2, 0, None), (0, 2, None), (2, 1, Some(15_000))] {
        let (server, dir) = (Server::start(Manners { part_bytes, failures, breaks, ..manners() }), model());
        push(&server, dir.path()).expect("pushed");
        assert_there(&server, "main", dir.path());
    }
    let (server, dir) = (Server::start(Manners { breaks: 5, ..manners() }), model());
    let error = push(&server, dir.path()).expect_err("it broke");
    let said = error.to_string();
    assert!(matches!(error, HubError::Send { attempts: 5, .. }), "{error:?}");
    assert!(said.contains("run the same command again") && !said.contains("signature"), "{said}");
    assert!(server.store().commits.is_empty());
    push(&server, dir.path()).expect("pushed");
    assert_there(&server, "main", dir.path());
    // The weights are there already, in another repository's name or not.
    let other = push_to(&server, dir.path(), Some(TOKEN), |push| push.name = "org/other").expect("pushed");
    assert_eq!((other.files.len(), other.bytes), (4, 0));
}

#[test]
fn what_may_not_be_is_said_and_the_token_is_not() {
    let (server, dir) = (Server::start(manners()), model());
    assert!(matches!(push_to(&server, dir.path(), None, |_| {}), Err(HubError::NoToken)));
    assert!(server.store().log.is_empty(), "nothing is asked without a token");
    let error = push_to(&server, dir.path(), Some("hf_wrong"), |_| {}).expect_err("another's token");
    assert!(matches!(error, HubError::NotAllowed { status: 401, .. }), "{error:?}");
    assert!(
        !format!("{error} {error:?}").contains("hf_wrong") && error.to_string().contains("HF_TOKEN"),
        "{error}"
    );
    for name in ["tiny", "org/tiny/x", "../x", "org/ti ny"] {
        let error = push_to(&server, dir.path(), Some(TOKEN), |push| push.name = name);
        assert!(matches!(error, Err(HubError::Name { .. })), "{name}");
    }
    let error = push_to(&server, dir.path(), Some(TOKEN), |push| push.branch = "a..b");
    assert!(matches!(error, Err(HubError::Revision { .. })));
    fs::remove_file(dir.path().join("model.safetensors")).expect("removed");
    fs::remove_file(dir.path().join("optimizer.safetensors")).expect("removed");
    assert!(matches!(
        push(&server, dir.path()),
        Err(HubError::NoModel { what: "weights in safetensors", .. })
    ));
    assert!(!format!("{:?}", Hub::new("http://h", Some(TOKEN.into()))).contains(TOKEN));
}

#[test]
fn a_hub_that_makes_no_repositories_may_have_this_one() {
    let (server, dir) = (Server::start(Manners { no_new: true, ..manners() }), model());
    let error = push(&server, dir.path()).expect_err("it is not there").to_string();
    assert!(
        error.contains("may not write `org/tiny` (HTTP 403)") && error.contains("makes no repositories"),
        "{error}"
    );
    server.put("org/tiny", "config.json", b"{}");
    let pushed = push(&server, dir.path()).expect("pushed");
    assert_eq!(pushed.unchanged, ["config.json"]);
    assert_there(&server, "main", dir.path());
}

#[test]
fn a_card_that_the_hub_does_not_take_is_said_before_anything_is_sent() {
    let (server, dir) =
        (Server::start(Manners { card: Some("\"license\" must be one of [mit]"), ..manners() }), model());
    let error = push(&server, dir.path()).expect_err("a card").to_string();
    assert!(error.contains("the metadata of README.md; it says: \"license\" must be one of"), "{error}");
    assert!(server.store().objects.is_empty());
}

#[test]
fn what_was_pushed_is_pulled() {
    let (server, dir) = (Server::start(manners()), model());
    push(&server, dir.path()).expect("pushed");
    let out = dir.path().join("pulled");
    let pulled = Hub::new(&server.endpoint, None)
        .expect("a hub")
        .pull("org/tiny", "main", &out, &mut |_| {})
        .expect("pulled");
    assert_eq!(pulled.files.len(), 4);
    assert_eq!(
        fs::read(out.join("model.safetensors")).expect("weights"),
        fs::read(dir.path().join("model.safetensors")).expect("weights")
    );
}
