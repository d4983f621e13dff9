//! A model's tokenizer: built once, shared by all threads, never changed. Text to tokens goes
//! through an `Encoder`, which holds the buffers; tokens to text through `decode` or a `StreamDecoder`.

use crate::bpe::Bpe;
use crate::encoder::{EncodeOptions, Encoder, Encoding};
use crate::error::TokenizerError;
use crate::pretokenize::{AddBos, PRE_TOKENIZERS, PreTokenizer, PreTokenizerRules, pre_tokenizer_rules};
use crate::rwkv::Rwkv;
use crate::special::{SpecialTokens, assign_roles};
use crate::spm::Spm;
use crate::unigram::{Spaces, Unigram};
use crate::vocabulary::{
    SpecialIds, Spelling, TokenId, Vocabulary, VocabularyNote, VocabularySource, attr, byte_of_token,
};
use crate::word_piece::{Normaliser, WordPiece};

/// Bytes to tokens and back, for one vocabulary.
pub struct Tokenizer {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) model: Model,
    pub(crate) special: SpecialTokens,
    pub(crate) rules: Rules,
    ids: SpecialIds,
    end_ids: Vec<TokenId>,
    notes: Vec<VocabularyNote>,
}

/// How the inside of a fragment of text becomes tokens.
pub(crate) enum Model {
    Bpe(Box<Bpe>, PreTokenizer),
    Spm(Box<Spm>),
    WordPiece(Box<WordPiece>),
    Unigram(Box<Unigram>),
    Rwkv(Box<Rwkv>),
}

/// What is added to or taken from a text as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) bos: Option<TokenId>,
    pub(crate) eos: Option<TokenId>,
    pub(crate) add_space_prefix: bool,
    pub(crate) clean_spaces: bool,
}

impl Tokenizer {
    /// Builds a tokenizer from what a file says.
    ///
    /// # Errors
    /// Unknown kinds of tokenizer, missing or contradictory tables; see `TokenizerError`.
    pub fn from_source(source: &VocabularySource<'_>) -> Result<Self, TokenizerError> {
        match source.model {
            // llama.cpp's defaults, from Falcon's vocabulary.
            "gpt2" => Self::pair_merges(source, source.pre, SpecialIds { bos: Some(11), eos: Some(11), ..NO_IDS }),
            "gemma4" => Self::pair_merges(source, source.pre.or(Some("gemma4")), NO_IDS),
            "llama" => Self::sentence_piece(source),
            "bert" => Self::word_piece(source),
            "t5" => Self::unigram(source),
            "rwkv" => Self::rwkv(source),
            name => Err(TokenizerError::UnknownModel { name: name.to_owned() }),
        }
    }

    /// Tokens in the vocabulary; ids run from 0 to one less.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.vocabulary.len()
    }

    /// The ids with a role.
    #[must_use]
    pub fn special_ids(&self) -> &SpecialIds {
        &self.ids
    }

    /// Ids that end a generation, ascending.
    #[must_use]
    pub fn end_ids(&self) -> &[TokenId] {
        &self.end_ids
    }

    /// Whether `id` ends a generation.
    #[must_use]
    pub fn is_end(&self, id: TokenId) -> bool {
        self.end_ids.binary_search(&id).is_ok()
    }

    /// Whether `id` is a control or unknown token, which a reader is not meant to see.
    #[must_use]
    pub fn is_special(&self, id: TokenId) -> bool {
        self.attrs(id) & (attr::CONTROL | attr::UNKNOWN) != 0
    }

    /// BOS, where a text encoded with `add_special` starts with it.
    #[must_use]
    pub fn added_bos(&self) -> Option<TokenId> {
        self.rules.bos
    }

    /// EOS, where a text encoded with `add_special` ends with it.
    #[must_use]
    pub fn added_eos(&self) -> Option<TokenId> {
        self.rules.eos
    }

    /// Whether llama.cpp's detokeniser would drop the space before punctuation for this vocabulary.
    #[must_use]
    pub fn cleans_spaces(&self) -> bool {
        self.rules.clean_spaces
    }

    /// What a person may want to know about the file.
    #[must_use]
    pub fn notes(&self) -> &[VocabularyNote] {
        &self.notes
    }

    /// The bytes a token stands for: its text for special tokens, nothing for unused ones.
    /// None for an id outside the vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        if id as usize >= self.vocabulary.len() {
            return None;
        }
        let kind = self.attrs(id);
        Some(if self.vocabulary.spelling == Spelling::Escaped {
            self.vocabulary.table.get(id)
        } else if kind & (attr::CONTROL | attr::UNKNOWN | attr::USER_DEFINED) != 0 {
            self.vocabulary.raw_text(id)
        } else if kind & attr::NORMAL != 0 {
            self.vocabulary.table.get(id)
        } else if kind & attr::BYTE != 0 {
            // Checked when the vocabulary was built.
            byte_of_token(self.vocabulary.raw_text(id)).map_or(&[], single_byte)
        } else {
            &[]
        })
    }

    /// The id of a token by its text as written in the file.
    #[must_use]
    pub fn find_token(&self, text: &str) -> Option<TokenId> {
        self.vocabulary.find_raw(text.as_bytes())
    }

    /// An encoder with its own buffers and word cache; keep it for many texts.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self)
    }

    /// Encodes one text. For many, keep an `encoder`.
    #[must_use]
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Encoding {
        Encoder::with_small_cache(self).encode(text, options)
    }

    pub(crate) fn attrs(&self, id: TokenId) -> u8 {
        self.vocabulary.attrs.get(id as usize).copied().unwrap_or(0)
    }

    /// BPE: from bytes, or in a few families from characters.
    fn pair_merges(
        source: &VocabularySource<'_>,
        pre: Option<&str>,
        default_ids: SpecialIds,
    ) -> Result<Self, TokenizerError> {
        let mut notes = Vec::new();
        let name = pre.filter(|name| !name.is_empty()).unwrap_or_else(|| {
            notes.push(VocabularyNote::PreTokenizerMissing);
            "default"
        });
        let rules = pre_tokenizer_rules(name).ok_or_else(|| unknown_pre_tokenizer(name))?;
        let merges = match (&source.merges, rules.splitter) {
            (Some(merges), _) => merges.as_slice(),
            // Its words are tokens or bytes.
            (None, PreTokenizer::KimiK2) => &[],
            (None, _) => return Err(TokenizerError::MissingKey { key: "tokenizer.ggml.merges" }),
        };
        let vocabulary = Vocabulary::build(source, rules.splitter.spelling())?;
        let bpe = Bpe::build(&vocabulary, merges, rules)?;
        let missing = bpe.missing_bytes();
        let settings = Settings::pair_merges(rules, default_ids);
        Self::finish(source, vocabulary, Model::Bpe(Box::new(bpe), rules.splitter), settings, missing, notes)
    }

    fn sentence_piece(source: &VocabularySource<'_>) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::build(source, Spelling::SentencePiece)?;
        let spm = Spm::build(&vocabulary, source)?;
        let missing = spm.missing_bytes();
        let settings = Settings {
            default_ids: SpecialIds { bos: Some(1), eos: Some(2), unknown: Some(0), ..NO_IDS },
            add_bos: AddBos::UnlessRefused,
            add_space_prefix: true,
            ..Settings::NOTHING_ADDED
        };
        Self::finish(source, vocabulary, Model::Spm(Box::new(spm)), settings, missing, Vec::new())
    }

    fn word_piece(source: &VocabularySource<'_>) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::build(source, Spelling::SentencePiece)?;
        let settings = Settings {
            default_ids: SpecialIds {
                bos: Some(101),
                unknown: Some(100),
                separator: Some(102),
                padding: Some(0),
                mask: Some(103),
                ..NO_IDS
            },
            add_bos: AddBos::Always,
            end: End::Separator,
            clean_spaces: true,
            ..Settings::NOTHING_ADDED
        };
        let unknown = unknown_id(source, settings.default_ids);
        // Accents go where capitals go, unless the file says otherwise.
        let lowercase = source.lowercase.unwrap_or(true);
        let normaliser = Normaliser { lowercase, strip_accents: source.strip_accents.unwrap_or(lowercase) };
        let words = WordPiece::build(&vocabulary, unknown, normaliser)?;
        Self::finish(source, vocabulary, Model::WordPiece(Box::new(words)), settings, Vec::new(), Vec::new())
    }

    fn unigram(source: &VocabularySource<'_>) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::build(source, Spelling::SentencePiece)?;
        let settings = Settings {
            default_ids: SpecialIds { eos: Some(1), unknown: Some(2), padding: Some(0), ..NO_IDS },
            end: End::EosUnlessRefused,
            ..Settings::NOTHING_ADDED
        };
        let unknown = unknown_id(source, settings.default_ids)
            .ok_or(TokenizerError::MissingKey { key: "tokenizer.ggml.unknown_token_id" })?;
        let spaces = Spaces {
            prefix: source.add_space_prefix.unwrap_or(settings.add_space_prefix),
            merge: source.remove_extra_spaces.unwrap_or(false),
        };
        let unigram = Unigram::build(&vocabulary, source, unknown, spaces)?;
        Self::finish(source, vocabulary, Model::Unigram(Box::new(unigram)), settings, Vec::new(), Vec::new())
    }

    fn rwkv(source: &VocabularySource<'_>) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::build(source, Spelling::Escaped)?;
        let rwkv = Rwkv::build(&vocabulary, unknown_id(source, NO_IDS))?;
        let missing = rwkv.missing_bytes();
        let settings = Settings { add_bos: AddBos::Never, end: End::Nothing, ..Settings::NOTHING_ADDED };
        Self::finish(source, vocabulary, Model::Rwkv(Box::new(rwkv)), settings, missing, Vec::new())
    }

    fn finish(
        source: &VocabularySource<'_>,
        mut vocabulary: Vocabulary,
        model: Model,
        settings: Settings,
        missing: Vec<u8>,
        mut notes: Vec<VocabularyNote>,
    ) -> Result<Self, TokenizerError> {
        if !missing.is_empty() {
            notes.push(VocabularyNote::MissingBytes { bytes: missing });
        }
        let roles = assign_roles(&mut vocabulary, source, settings.default_ids, &mut notes);
        let added = |wanted: bool, id: Option<TokenId>, flag| match (wanted, id) {
            (true, None) => Err(TokenizerError::MissingAddedToken { flag }),
            (true, id) => Ok(id),
            (false, _) => Ok(None),
        };
        let add_bos = match settings.add_bos {
            AddBos::Never => false,
            AddBos::IfAsked => source.add_bos.unwrap_or(false),
            AddBos::UnlessRefused => source.add_bos.unwrap_or(true),
            AddBos::Always => true,
        };
        let (add_end, end, end_flag) = match settings.end {
            End::Nothing => (false, None, ""),
            End::EosIfAsked => (source.add_eos.unwrap_or(false), roles.ids.eos, "tokenizer.ggml.add_eos_token"),
            End::EosUnlessRefused => (source.add_eos.unwrap_or(true), roles.ids.eos, "tokenizer.ggml.add_eos_token"),
            End::Separator => (true, roles.ids.separator, "tokenizer.ggml.add_sep_token"),
        };
        let rules = Rules {
            bos: added(add_bos, roles.ids.bos, "tokenizer.ggml.add_bos_token")?,
            eos: added(add_end, end, end_flag)?,
            add_space_prefix: source.add_space_prefix.unwrap_or(settings.add_space_prefix),
            clean_spaces: settings.clean_spaces,
        };
        let special = SpecialTokens::new(&vocabulary);
        Ok(Self { vocabulary, model, special, rules, ids: roles.ids, end_ids: roles.end_ids, notes })
    }
}

/// What holds unless the file says otherwise.
#[derive(Clone, Copy)]
struct Settings {
    default_ids: SpecialIds,
    add_bos: AddBos,
    end: End,
    add_space_prefix: bool,
    clean_spaces: bool,
}

/// What ends a text.
#[derive(Clone, Copy)]
enum End {
    Nothing,
    EosIfAsked,
    EosUnlessRefused,
    Separator,
}

const NO_IDS: SpecialIds = SpecialIds {
    bos: None,
    eos: None,
    eot: None,
    eom: None,
    unknown: None,
    separator: None,
    padding: None,
    mask: None,
    fim_prefix: None,
    fim_suffix: None,
    fim_middle: None,
    fim_padding: None,
    fim_repository: None,
    fim_separator: None,
};

impl Settings {
    const NOTHING_ADDED: Self = Self {
        default_ids: NO_IDS,
        add_bos: AddBos::IfAsked,
        end: End::EosIfAsked,
        add_space_prefix: false,
        clean_spaces: false,
    };

    fn pair_merges(rules: &PreTokenizerRules, mut default_ids: SpecialIds) -> Self {
        if rules.no_default_bos {
            default_ids.bos = None;
        }
        Self { default_ids, add_bos: rules.add_bos, clean_spaces: rules.clean_spaces, ..Self::NOTHING_ADDED }
    }
}

/// The unknown token, if it is in the vocabulary.
fn unknown_id(source: &VocabularySource<'_>, defaults: SpecialIds) -> Option<TokenId> {
    let inside = |id: &TokenId| (*id as usize) < source.tokens.len();
    source.special_ids.unknown.filter(inside).or(defaults.unknown.filter(inside))
}

/// Whether this kind of tokenizer cuts text into words by a named rule.
pub(crate) fn has_pre_tokenizer(model: &str) -> bool {
    matches!(model, "gpt2" | "gemma4")
}

fn unknown_pre_tokenizer(name: &str) -> TokenizerError {
    let known: Vec<&str> = PRE_TOKENIZERS.iter().map(|rules| rules.name).collect();
    TokenizerError::UnknownPreTokenizer { name: name.to_owned(), known: known.join(", ") }
}

fn single_byte(byte: u8) -> &'static [u8] {
    static BYTES: [u8; 256] = {
        let mut bytes = [0; 256];
        let mut i = 0;
        while i < 256 {
            bytes[i] = i as u8;
            i += 1;
        }
        bytes
    };
    std::slice::from_ref(&BYTES[usize::from(byte)])
}
