//! Small vocabularies for the tests. Never used outside them.

use metallic_text::{EncodeOptions, Tokenizer, VocabularySource};

pub(crate) const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
pub(crate) const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
pub(crate) const ADDED: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

pub(crate) const NORMAL: i32 = 1;
pub(crate) const UNKNOWN: i32 = 2;
pub(crate) const CONTROL: i32 = 3;
pub(crate) const USER_DEFINED: i32 = 4;
pub(crate) const UNUSED: i32 = 5;
pub(crate) const BYTE: i32 = 6;

/// Texts and types owned, so that a test can change them before it builds.
pub(crate) struct Draft {
    pub(crate) tokens: Vec<(Vec<u8>, i32)>,
    pub(crate) merges: Option<Vec<Vec<u8>>>,
    pub(crate) scores: Option<Vec<f32>>,
}

impl Draft {
    /// All bytes, then the results of `merges` (given as plain text), then `special`.
    pub(crate) fn byte_level(merges: &[(&str, &str)], special: &[(&str, i32)]) -> Self {
        let mut tokens: Vec<(Vec<u8>, i32)> = (0..=255).map(|b| (spell(&[b]), NORMAL)).collect();
        tokens.extend(merges.iter().map(|(a, b)| (spell(format!("{a}{b}").as_bytes()), NORMAL)));
        tokens.extend(special.iter().map(|(text, kind)| (text.as_bytes().to_vec(), *kind)));
        let merges =
            merges.iter().map(|(a, b)| [spell(a.as_bytes()), b" ".to_vec(), spell(b.as_bytes())].concat()).collect();
        Self { tokens, merges: Some(merges), scores: None }
    }

    /// `<unk> <s> </s>`, all byte tokens, then pieces with their scores.
    pub(crate) fn sentence_piece(pieces: &[(&str, i32, f32)]) -> Self {
        let mut tokens = vec![(b"<unk>".to_vec(), UNKNOWN), (b"<s>".to_vec(), CONTROL), (b"</s>".to_vec(), CONTROL)];
        tokens.extend((0..=255).map(|b: u8| (format!("<0x{b:02X}>").into_bytes(), BYTE)));
        let mut scores = vec![0.0; tokens.len()];
        tokens.extend(pieces.iter().map(|(text, kind, _)| (text.as_bytes().to_vec(), *kind)));
        scores.extend(pieces.iter().map(|(_, _, score)| *score));
        Self { tokens, merges: None, scores: Some(scores) }
    }

    pub(crate) fn source(&self) -> VocabularySource<'_> {
        VocabularySource {
            model: if self.scores.is_some() { "llama" } else { "gpt2" },
            pre: Some("qwen2"),
            tokens: self.tokens.iter().map(|(text, _)| text.as_slice()).collect(),
            token_types: Some(self.tokens.iter().map(|(_, kind)| *kind).collect()),
            scores: self.scores.clone(),
            merges: self.merges.as_ref().map(|merges| merges.iter().map(Vec::as_slice).collect()),
            ..VocabularySource::default()
        }
    }

    pub(crate) fn build(&self) -> Tokenizer {
        Tokenizer::from_source(&self.source()).unwrap()
    }

    pub(crate) fn id(&self, text: &str) -> u32 {
        self.tokens.iter().position(|(token, _)| token == text.as_bytes()).unwrap() as u32
    }
}

/// GPT-2's printable spelling.
pub(crate) fn spell(bytes: &[u8]) -> Vec<u8> {
    let prints = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let spelled = |b: u8| {
        let extra = (0..b).filter(|&lower| !prints(lower)).count() as u32;
        char::from_u32(if prints(b) { u32::from(b) } else { 256 + extra }).unwrap()
    };
    bytes.iter().map(|&b| spelled(b)).collect::<String>().into_bytes()
}

/// The pieces of an encoded text, for reading.
pub(crate) fn pieces(tokenizer: &Tokenizer, text: &str, options: EncodeOptions) -> Vec<String> {
    let ids = tokenizer.encode(text, options).ids;
    ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id).unwrap()).into_owned()).collect()
}
