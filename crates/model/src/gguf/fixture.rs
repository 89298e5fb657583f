//! GGUF files made in memory, for tests.

/// The parts of a file, to be changed at will before [`Fixture::bytes`] puts them together.
#[derive(Clone)]
pub(super) struct Fixture {
    /// Key, type code, value.
    pub(super) pairs: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions innermost first, type code, data.
    pub(super) tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl Fixture {
    /// A Llama of one layer: width 8, two heads of 4, one key-value head, four tokens, tied. Value i of a
    /// tensor is i.
    pub(super) fn llama() -> Self {
        let mut fixture = Self { pairs: Vec::new(), tensors: Vec::new() };
        fixture.text("general.architecture", "llama");
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 64),
            ("embedding_length", 8),
            ("feed_forward_length", 16),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", 4),
        ] {
            fixture.number(&format!("llama.{key}"), value);
        }
        fixture.pair("llama.attention.layer_norm_rms_epsilon", 6, &1e-5_f32.to_le_bytes());
        fixture.text("tokenizer.ggml.model", "gpt2");
        fixture.text("tokenizer.ggml.pre", "smollm");
        fixture.texts("tokenizer.ggml.tokens", &["<s>", "a", "b", "ab"]);
        let kinds: Vec<u8> = [3_i32, 1, 1, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
        fixture.array("tokenizer.ggml.token_type", 5, 4, &kinds);
        fixture.texts("tokenizer.ggml.merges", &["a b"]);
        fixture.number("tokenizer.ggml.bos_token_id", 0);
        fixture.text("tokenizer.chat_template", "{{ bos_token }}");
        for (name, dims) in [
            ("token_embd", &[8, 4][..]),
            ("blk.0.attn_norm", &[8]),
            ("blk.0.attn_q", &[8, 8]),
            ("blk.0.attn_k", &[8, 4]),
            ("blk.0.attn_v", &[8, 4]),
            ("blk.0.attn_output", &[8, 8]),
            ("blk.0.ffn_norm", &[8]),
            ("blk.0.ffn_gate", &[8, 16]),
            ("blk.0.ffn_up", &[8, 16]),
            ("blk.0.ffn_down", &[16, 8]),
            ("output_norm", &[8]),
        ] {
            let values: Vec<f32> = (0..dims.iter().product()).map(|i: u64| i as f32).collect();
            fixture.tensor(&format!("{name}.weight"), dims, &values);
        }
        fixture
    }

    /// Adds a metadata value of type `code`, or replaces it.
    pub(super) fn pair(&mut self, key: &str, code: u32, value: &[u8]) {
        self.pairs.retain(|pair| pair.0 != key);
        self.pairs.push((key.to_owned(), code, value.to_vec()));
    }

    pub(super) fn number(&mut self, key: &str, value: u32) {
        self.pair(key, 4, &value.to_le_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.pair(key, 8, &string(value));
    }

    pub(super) fn texts(&mut self, key: &str, values: &[&str]) {
        let items: Vec<u8> = values.iter().flat_map(|value| string(value)).collect();
        self.array(key, 8, values.len() as u64, &items);
    }

    /// Adds an array that claims `len` items of type `code`.
    pub(super) fn array(&mut self, key: &str, code: u32, len: u64, items: &[u8]) {
        self.pair(key, 9, &[&code.to_le_bytes()[..], &len.to_le_bytes(), items].concat());
    }

    /// Adds an f32 tensor, or replaces it.
    pub(super) fn tensor(&mut self, name: &str, dims: &[u64], values: &[f32]) {
        self.tensors.retain(|tensor| tensor.0 != name);
        let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensors.push((name.to_owned(), dims.to_vec(), 0, data));
    }

    /// The file, with data aligned to 32 bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, code, value) in &self.pairs {
            file.extend([&string(key)[..], &code.to_le_bytes(), value].concat());
        }
        let mut data = Vec::new();
        for (name, dims, code, values) in &self.tensors {
            file.extend(string(name));
            file.extend((dims.len() as u32).to_le_bytes());
            file.extend(dims.iter().flat_map(|n| n.to_le_bytes()));
            file.extend(code.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(values);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
