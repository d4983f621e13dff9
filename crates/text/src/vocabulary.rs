//! The tokens of a model: bytes, kinds, scores, and the ids with a role. Built once from a
//! `VocabularySource`, never changed afterwards. Knows nothing of how text becomes tokens.

use crate::byte_level;
use crate::error::TokenizerError;
use crate::rwkv;
use crate::text_table::TextTable;

/// Index of a token in the vocabulary, as in the file.
pub type TokenId = u32;

/// What a file says about its tokenizer, borrowed from wherever the file is.
/// Every field is named after its `tokenizer.ggml.*` key.
#[derive(Clone, Debug, Default)]
pub struct VocabularySource<'a> {
    /// `model`: `gpt2`, `gemma4`, `llama`, `bert`, `t5` or `rwkv`.
    pub model: &'a str,
    /// `pre`, or the caller's override of it. Only BPE looks at it; `gemma4` takes its own where this is `None`.
    pub pre: Option<&'a str>,
    /// `tokens`, in id order.
    pub tokens: Vec<&'a [u8]>,
    /// `token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    /// Without it every token is normal.
    pub token_types: Option<Vec<i32>>,
    /// `scores`; only SentencePiece and unigram models look at them.
    pub scores: Option<Vec<f32>>,
    /// `merges`: two parts with a space between, best first. Only BPE looks at them.
    pub merges: Option<Vec<&'a [u8]>>,
    /// The `*_token_id` keys.
    pub special_ids: SpecialIds,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`; only unigram models look at it.
    pub remove_extra_spaces: Option<bool>,
    /// `precompiled_charsmap`; only unigram models look at it.
    pub precompiled_charsmap: Option<Vec<u8>>,
    /// `normalizer.lowercase`; only WordPiece looks at it.
    pub lowercase: Option<bool>,
    /// `normalizer.strip_accents`; only WordPiece looks at it.
    pub strip_accents: Option<bool>,
    /// `general.name`: some models' special tokens swallow white space, and only the name tells.
    pub model_name: Option<&'a str>,
}

/// Ids with a role. In a source: what the file says. In a vocabulary: what holds after defaults
/// and the search for well-known texts, all inside the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Beginning of a text.
    pub bos: Option<TokenId>,
    /// End of a text.
    pub eos: Option<TokenId>,
    /// End of a turn.
    pub eot: Option<TokenId>,
    /// End of a message, where a tool is to answer.
    pub eom: Option<TokenId>,
    /// Unknown text.
    pub unknown: Option<TokenId>,
    /// Separator.
    pub separator: Option<TokenId>,
    /// Padding.
    pub padding: Option<TokenId>,
    /// Mask.
    pub mask: Option<TokenId>,
    /// Fill in the middle: before the prefix.
    pub fim_prefix: Option<TokenId>,
    /// Fill in the middle: before the suffix.
    pub fim_suffix: Option<TokenId>,
    /// Fill in the middle: before the answer.
    pub fim_middle: Option<TokenId>,
    /// Fill in the middle: padding.
    pub fim_padding: Option<TokenId>,
    /// Fill in the middle: before a repository's name.
    pub fim_repository: Option<TokenId>,
    /// Fill in the middle: before a file's name.
    pub fim_separator: Option<TokenId>,
}

/// Something in a file that did not stop the tokenizer from being built, but that a person may
/// want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VocabularyNote {
    /// The file names no pre-tokenizer; `default` is used, which is rarely what the model was trained with.
    PreTokenizerMissing,
    /// A role's id lies outside the vocabulary and is ignored.
    SpecialIdOutOfRange {
        /// The role, as in the metadata key.
        role: &'static str,
        /// The id in the file.
        id: TokenId,
    },
    /// The token's text is that of a control token, its type is not; it is treated as control.
    TreatedAsControl {
        /// The token.
        id: TokenId,
    },
    /// No token stands for these bytes. Text that has them loses them in encoding;
    /// `Encoding::unencodable` tells where.
    MissingBytes {
        /// The bytes, ascending.
        bytes: Vec<u8>,
    },
}

/// Kind bits of a token.
pub(crate) mod attr {
    pub(crate) const NORMAL: u8 = 1;
    pub(crate) const UNKNOWN: u8 = 2;
    pub(crate) const CONTROL: u8 = 4;
    pub(crate) const USER_DEFINED: u8 = 8;
    pub(crate) const BYTE: u8 = 16;
    pub(crate) const UNUSED: u8 = 32;
    /// Swallows white space before itself.
    pub(crate) const STRIP_LEFT: u8 = 64;
    /// Swallows white space after itself.
    pub(crate) const STRIP_RIGHT: u8 = 128;
}

/// How token texts are spelled in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// GPT-2's printable bytes.
    ByteLevel,
    /// U+2581 for a space.
    SentencePiece,
    /// The bytes themselves.
    Plain,
    /// RWKV's escapes.
    Escaped,
}

/// U+2581, SentencePiece's visible space.
pub(crate) const VISIBLE_SPACE: &[u8] = "\u{2581}".as_bytes();

/// Tokens by id.
pub(crate) struct Vocabulary {
    /// Id to the bytes a normal token stands for. `find` knows those that text can contain.
    pub(crate) table: TextTable,
    pub(crate) attrs: Vec<u8>,
    /// Texts as the file has them, sorted by id: of tokens that `find` does not know, and of those
    /// that are not normal (they are shown as written) where the spelling makes a difference.
    raw: Vec<(TokenId, Box<[u8]>)>,
    pub(crate) spelling: Spelling,
}

impl Vocabulary {
    pub(crate) fn build(source: &VocabularySource<'_>, spelling: Spelling) -> Result<Self, TokenizerError> {
        let count = source.tokens.len();
        if count == 0 {
            return Err(TokenizerError::NoTokens);
        }
        let attrs = attrs_of(source)?;
        let bytes = source.tokens.iter().map(|t| t.len()).sum();
        let mut vocabulary = Self { table: TextTable::with_capacity(count, bytes), attrs, raw: Vec::new(), spelling };
        let mut plain = Vec::new();
        for (id, text) in source.tokens.iter().enumerate() {
            vocabulary.add(id as TokenId, text, &mut plain)?;
        }
        Ok(vocabulary)
    }

    fn add(&mut self, id: TokenId, text: &[u8], plain: &mut Vec<u8>) -> Result<(), TokenizerError> {
        plain.clear();
        if self.attrs[id as usize] == attr::BYTE && byte_of_token(text).is_none() {
            return Err(TokenizerError::BadByteToken { id, text: lossy(text) });
        }
        if !spell_into(text, self.spelling, plain) {
            if plain.is_empty() {
                plain.extend_from_slice(text);
            }
            self.table.push(plain)?;
            self.raw.push((id, text.into()));
            return Ok(());
        }
        if plain != text && self.attrs[id as usize] & attr::NORMAL == 0 {
            self.raw.push((id, text.into()));
        }
        match self.table.insert(plain)? {
            Ok(_) => Ok(()),
            Err(first) => Err(TokenizerError::DuplicateToken { first, second: id, text: lossy(text) }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether `find` gives `id` for `text`, without a search; at times no where the answer is yes.
    pub(crate) fn is_known_as(&self, id: TokenId, text: &[u8]) -> bool {
        // A token that text can never contain may lie in the table under the very bytes of one that it can.
        self.table.get(id) == text && self.raw.binary_search_by_key(&id, |(raw_id, _)| *raw_id).is_err()
    }

    /// The text of a token as the file has it, for tokens that are not normal.
    pub(crate) fn raw_text(&self, id: TokenId) -> &[u8] {
        match self.raw.binary_search_by_key(&id, |(raw_id, _)| *raw_id) {
            Ok(i) => &self.raw[i].1,
            Err(_) => self.table.get(id),
        }
    }

    /// The id of a token by its text as the file has it.
    pub(crate) fn find_raw(&self, text: &[u8]) -> Option<TokenId> {
        let mut plain = Vec::new();
        // A spelling is one to one, so equal bytes mean equal texts.
        if spell_into(text, self.spelling, &mut plain) {
            return self.table.find(&plain);
        }
        self.raw.iter().find(|(_, raw)| **raw == *text).map(|(id, _)| *id)
    }
}

/// Appends the bytes a token's text stands for. False where text to encode can never contain it:
/// an empty token, a raw space in SentencePiece, a character that spells no byte.
pub(crate) fn spell_into(text: &[u8], spelling: Spelling, out: &mut Vec<u8>) -> bool {
    match spelling {
        Spelling::ByteLevel => !text.is_empty() && byte_level::decode_into(text, out),
        Spelling::SentencePiece => {
            unescape_into(text, out);
            !text.is_empty() && !text.contains(&b' ')
        }
        Spelling::Plain => {
            out.extend_from_slice(text);
            !text.is_empty()
        }
        Spelling::Escaped => !text.is_empty() && rwkv::unescape_into(text, out),
    }
}

fn attrs_of(source: &VocabularySource<'_>) -> Result<Vec<u8>, TokenizerError> {
    let count = source.tokens.len();
    let Some(types) = &source.token_types else {
        return Ok(vec![attr::NORMAL; count]);
    };
    if types.len() < count {
        return Err(TokenizerError::WrongLength {
            key: "tokenizer.ggml.token_type",
            length: types.len(),
            tokens: count,
        });
    }
    let attr_of = |kind: &i32| match kind {
        1 => attr::NORMAL,
        2 => attr::UNKNOWN,
        3 => attr::CONTROL,
        4 => attr::USER_DEFINED,
        5 => attr::UNUSED,
        6 => attr::BYTE,
        _ => 0,
    };
    Ok(types[..count].iter().map(attr_of).collect())
}

/// Appends `text` with spaces for U+2581.
pub(crate) fn unescape_into(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(&first) = rest.first() {
        if let Some(after) = rest.strip_prefix(VISIBLE_SPACE) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(first);
            rest = &rest[1..];
        }
    }
}

/// The byte that a token written `<0xHH>` stands for.
pub(crate) fn byte_of_token(text: &[u8]) -> Option<u8> {
    let [b'<', b'0', b'x', high, low, b'>'] = *text else {
        return None;
    };
    let digit = |c: u8| (c as char).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

pub(crate) fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
