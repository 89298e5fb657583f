use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tokenizer::tests::{from_json, tiny};

/// A vocabulary of the Llama 2 kind: pieces with ▁ for a space, and a token for every byte.
fn byte_fallback() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["▁", "▁a", "b", "▁the", "é"].map(str::to_owned);
    let vocab: serde_json::Map<String, Value> =
        ["<unk>".to_owned()].into_iter().chain(bytes).chain(pieces).zip((0..).map(|i| json!(i))).collect();
    from_json(&json!({
        "version": "1.0", "added_tokens": [],
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true, "unk_token": "<unk>"},
    }))
}

/// The pieces of `ids`, the last being what was held.
fn pieces(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
    let mut stream = TextStream::new(tokenizer, skip_special);
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).expect("text")).collect();
    pieces.push(stream.finish().expect("text"));
    pieces
}

#[test]
fn a_character_of_four_tokens_comes_whole() {
    let tokenizer = byte_fallback();
    let byte = |b: u8| u32::from(b) + 1;
    let ids: Vec<u32> = [258].into_iter().chain("🙂".bytes().map(byte)).chain([260, 259]).collect();
    assert_eq!(pieces(&tokenizer, &ids, true), ["a", "", "", "", "🙂", " the", "b", ""]);
    assert_eq!(
        pieces(&tokenizer, &ids[..3], true),
        ["a", "", "", "\u{FFFD}\u{FFFD}"],
        "cut by the model, not by us"
    );
}

#[test]
fn special_tokens_are_shown_or_not() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("<s>the</s> é", false).expect("tokens");
    assert_eq!(pieces(&tokenizer, &ids, true).concat(), "the é");
    assert_eq!(pieces(&tokenizer, &ids, false).concat(), "<s>the</s> é");
}

proptest! {
    #[test]
    fn pieces_are_whole_characters_and_all_of_the_text(text in "\\PC{0,30}") {
        for tokenizer in [tiny(), byte_fallback()] {
            let ids = tokenizer.encode(&text, false).expect("tokens");
            let pieces = pieces(&tokenizer, &ids, false);
            prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids, false).expect("text"));
            if !text.contains(char::REPLACEMENT_CHARACTER) {
                prop_assert!(!pieces.concat().contains(char::REPLACEMENT_CHARACTER));
            }
        }
    }

    /// Any tokens at all, as a model may sample them.
    #[test]
    fn any_bytes_are_what_decode_makes_of_them(ids in prop::collection::vec(0u32..310, 0..40)) {
        let tokenizer = tiny();
        prop_assert_eq!(pieces(&tokenizer, &ids, true).concat(), tokenizer.decode(&ids, true).expect("text"));
    }

    /// However the text is cut into pieces, a stop is found, and nothing of it is shown.
    #[test]
    fn stops_are_found_across_pieces(text in "[abé\n]{0,40}", stops in prop::collection::vec("[abé\n]{1,4}", 0..3), cut in 1usize..6) {
        let mut found = StopStrings::new(&stops);
        let (mut shown, mut stopped) = (String::new(), false);
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(cut) {
            match found.push(&piece.iter().collect::<String>()) {
                Found::Text(text) => shown += &text,
                Found::Stop(text) => {
                    shown += &text;
                    stopped = true;
                    break;
                }
            }
            prop_assert!(first_stop(&shown, &stops).is_none());
        }
        if !stopped {
            shown += &found.finish();
        }
        prop_assert_eq!(stopped, first_stop(&text, &stops).is_some());
        prop_assert!(text.starts_with(&shown) && (stopped || shown == text));
        if stopped && stops.len() == 1 {
            prop_assert_eq!(Some(shown.len()), first_stop(&text, &stops));
        }
    }
}

#[test]
fn what_may_be_a_stop_is_held_back() {
    let stops = ["\n\n".to_owned(), "END".to_owned(), String::new()];
    let mut found = StopStrings::new(&stops);
    let text = |text: &str| Found::Text(text.to_owned());
    assert_eq!(found.push("one E"), text("one "));
    assert_eq!(found.push("N"), text(""));
    assert_eq!(found.push("O\n"), text("ENO"));
    assert_eq!(found.push("x"), text("\nx"));
    assert_eq!(found.push("yEND z\n\n"), Found::Stop("y".to_owned()));
    let mut found = StopStrings::new(&stops);
    assert_eq!((found.push("EN"), found.finish()), (text(""), "EN".to_owned()));
}
