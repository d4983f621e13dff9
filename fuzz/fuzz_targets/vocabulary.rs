//! Any vocabulary of any kind, and any text: an error, or tokens of the vocabulary that decode without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metallic_text::{
    DecodeOptions, EncodeOptions, PRE_TOKENIZERS, SpecialIds, StreamDecoder, StreamOptions, StreamStart, Tokenizer,
    VocabularySource,
};

const MODELS: &[&str] = &["gpt2", "llama", "bert", "t5", "rwkv", "gemma4", "none"];

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// A text of up to 255 bytes.
    fn text(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..len).unwrap_or_default()
    }

    fn texts(&mut self) -> Vec<&'a [u8]> {
        (0..self.byte()).map(|_| self.text()).collect()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let model = MODELS[usize::from(input.byte()) % MODELS.len()];
    let pre = PRE_TOKENIZERS[usize::from(input.byte()) % PRE_TOKENIZERS.len()].name;
    let flags = input.byte();
    let flag = |bit: u8| (flags >> bit & 1 == 1).then_some(true);
    // Sources with a token for each byte get farther than those without.
    let plain: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let mut tokens = input.texts();
    if flags >> 6 & 1 == 1 {
        tokens.extend(plain.iter().map(|text| text.as_slice()).filter(|text| text[0] != b'\\'));
    }
    let types = tokens.iter().map(|_| i32::from(input.byte() % 8)).collect();
    let source = VocabularySource {
        model,
        pre: Some(pre),
        token_types: flag(0).map(|_| types),
        scores: flag(1).map(|_| tokens.iter().map(|_| f32::from(input.byte()) - 200.0).collect()),
        merges: Some(input.texts()),
        special_ids: SpecialIds {
            bos: flag(2).map(|_| u32::from(input.byte())),
            unknown: flag(3).map(|_| u32::from(input.byte())),
            separator: flag(2).map(|_| 1),
            ..SpecialIds::default()
        },
        add_space_prefix: flag(4),
        remove_extra_spaces: flag(5),
        precompiled_charsmap: flag(7).map(|_| input.text().to_vec()),
        model_name: flag(7).map(|_| "phi-3"),
        tokens,
        ..VocabularySource::default()
    };
    let tokenizer = match Tokenizer::from_source(&source) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert!(error.to_string().len() < 4000),
    };
    let text = String::from_utf8_lossy(input.0);
    let mut encoder = tokenizer.encoder();
    for (add_special, parse_special) in [(false, false), (true, true)] {
        let options = EncodeOptions { add_special, parse_special };
        let encoding = encoder.encode(&text, options);
        assert!(encoding.ids.iter().all(|&id| (id as usize) < tokenizer.token_count()));
        assert!(encoding.unencodable.iter().all(|lost| lost.offset < text.len()));
        assert_eq!(encoder.encode(&text, options), encoding, "the cache changes nothing");
        let whole = tokenizer.decode(&encoding.ids, DecodeOptions { skip_special: true, clean_spaces: false });
        let mut stream = StreamDecoder::new(&tokenizer, StreamOptions { skip_special: true, start: StreamStart::Text });
        let mut streamed: String = encoding.ids.iter().map(|&id| stream.push(id).to_owned()).collect();
        streamed += stream.finish();
        assert_eq!(streamed, whole);
    }
});
