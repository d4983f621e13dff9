//! The programs of tiny models as text, and the parts of a program that the text does not show.

use metallic_models::load;
use program::describe::describe;
use program::{Buffer, Program, RopeKind, Step, TensorIndex};
use tensor::Format;
use testkit::{MetaValue, TinyFormats, TinyModel, TinyParts};

use gguf::ArrayBuf;

fn program_of(parts: &TinyParts) -> Program {
    Program::clone(&load(&parts.file()).expect("a model that loads").program)
}

fn parts(architecture: &'static str) -> TinyParts {
    TinyModel::new(architecture, 1).parts()
}

fn windows(program: &Program) -> Vec<Option<u32>> {
    let window = |step: &Step| match step {
        Step::Attention(attention) => Some(attention.window),
        _ => None,
    };
    let of_layer =
        |steps: &[(&str, Step)]| steps.iter().find_map(|(_, step)| window(step)).expect("every layer attends");
    program.layers.iter().map(|layer| of_layer(&program.template(layer).steps)).collect()
}

/// The rotary table of each layer.
fn ropes(program: &Program) -> Vec<program::RopeTable> {
    let rope = |step: &Step| match step {
        Step::RopeStore(store) => Some(store.rope.clone()),
        _ => None,
    };
    let of_layer = |steps: &[(&str, Step)]| steps.iter().find_map(|(_, step)| rope(step)).expect("every layer rotates");
    program.layers.iter().map(|layer| of_layer(&program.template(layer).steps)).collect()
}

#[test]
fn qwen2_is_embedding_equal_layers_and_a_tied_head() {
    let model = TinyModel { formats: TinyFormats::uniform(Format::Q8_0), ..TinyModel::new("qwen2", 1) };
    let program = program_of(&model.parts());
    let expected = "\
prologue              template A
  .embed      Embed            266 tokens -> 64
blk.0 … blk.1         template B
  .qkv        NormLinear       64 -> 128                          Q8_0 Q8_0 Q8_0     0.009 MB
  .rope       RopeStore        4+2 heads of 16
  .attn       Attention        4 heads / 2
  .attn_out   LinearAdd        64 -> 64                           Q8_0               0.004 MB
  .gate_up    NormGatedLinear  64 -> 96                           Q8_0 Q8_0          0.013 MB
  .down       LinearAdd        96 -> 64                           Q8_0               0.007 MB
epilogue              template C
  .select     Select           rows that want logits
  .norm       Norm             64                                                    0.000 MB
  .head       Head             64 -> 266                          Q8_0               0.018 MB
";
    assert_eq!(describe(&program, false), expected);
    let Step::Head(head) = &program.template(&program.epilogue).steps[2].1 else { panic!("the head is last") };
    assert_eq!(program.weight(&program.epilogue, head.projection.weight).name, "token_embd.weight");
    assert_eq!(program.buffer_width(Buffer::Qkv), 64 + 2 * 32);
}

#[test]
fn gemma3_has_norms_everywhere_and_local_layers() {
    let program = program_of(&parts("gemma3"));
    let expected = "\
prologue              template A
  .embed      Embed            266 tokens -> 64
blk.0 … blk.1         template B
  .qkv        NormLinear       64 -> 128                          F32 F32 F32        0.033 MB
  .rope       RopeStore        4+2 heads of 16                                       0.000 MB
  .attn       Attention        4 heads / 2, window 4
  .attn_out   LinearAdd        64 -> 64                           F32                0.017 MB
  .gate_up    NormGatedLinear  64 -> 96                           F32 F32            0.049 MB
  .down       LinearAdd        96 -> 64                           F32                0.025 MB
epilogue              template C
  .select     Select           rows that want logits
  .norm       Norm             64                                                    0.000 MB
  .head       Head             64 -> 266                          F32                0.068 MB
";
    assert_eq!(describe(&program, false), expected);
    let Step::Embed(embed) = &program.template(&program.prologue).steps[0].1 else { panic!("embedding is first") };
    assert_eq!(embed.scale, 8.0);
}

#[test]
fn mixed_formats_make_their_own_templates() {
    let mut parts = parts("llama");
    parts.tensor_mut("blk.1.attn_v.weight").format = Format::F16;
    let program = program_of(&parts);
    assert_eq!(program.templates.len(), 4);
    assert_ne!(program.layers[0].template, program.layers[1].template);
}

#[test]
fn an_output_tensor_unties_the_head() {
    let mut model = TinyModel::new("llama", 1);
    model.formats.head = Some(Format::F16);
    let program = program_of(&model.parts());
    let Step::Head(head) = &program.template(&program.epilogue).steps[2].1 else { panic!("the head is last") };
    assert_eq!(program.weight(&program.epilogue, head.projection.weight).name, "output.weight");
}

#[test]
fn llama_rotates_neighbours_and_the_others_halves() {
    for architecture in ["gemma", "gemma2", "gemma3", "llama", "qwen2", "qwen3"] {
        let kind = if architecture == "llama" { RopeKind::Interleaved } else { RopeKind::Half };
        assert_eq!(ropes(&program_of(&parts(architecture)))[0].kind, kind, "{architecture}");
    }
}

#[test]
fn windows_follow_the_pattern() {
    let seven = |architecture| TinyModel { layers: 7, ..TinyModel::new(architecture, 1) }.parts();
    let (near, all) = (Some(4), None);
    assert_eq!(windows(&program_of(&seven("gemma3"))), [near, near, near, near, near, all, near]);
    assert_eq!(windows(&program_of(&seven("gemma2"))), [near, all, near, all, near, all, near]);
    assert_eq!(windows(&program_of(&seven("qwen2"))), [all; 7]);

    let mut period = seven("gemma3");
    period.set("gemma3.attention.sliding_window_pattern", MetaValue::U32(3));
    assert_eq!(windows(&program_of(&period)), [near, near, all, near, near, all, near]);

    let mut flags = seven("gemma3");
    let array = ArrayBuf::scalars(&[false, true, true, false, true, true, false]);
    flags.set("gemma3.attention.sliding_window_pattern", MetaValue::Array(array));
    assert_eq!(windows(&program_of(&flags)), [all, near, near, all, near, near, all]);

    let mut none = seven("gemma3");
    none.remove("gemma3.attention.sliding_window");
    assert_eq!(windows(&program_of(&none)), [all; 7]);
}

#[test]
fn gemma3_scales_global_layers_only() {
    let mut parts = TinyModel { layers: 6, ..TinyModel::new("gemma3", 1) }.parts();
    parts.set("gemma3.rope.freq_base", MetaValue::F32(1e6));
    parts.set("gemma3.rope.scaling.type", MetaValue::Text("linear".to_owned()));
    parts.set("gemma3.rope.scaling.factor", MetaValue::F32(8.0));
    let ropes = ropes(&program_of(&parts));
    let second = |base: f64| base.powf(-2.0 / 16.0);
    assert_eq!(ropes[0].frequencies[..2], [1.0, second(10_000.0)]);
    assert_eq!(ropes[5].frequencies[..2], [1.0 / 8.0, second(1e6) / 8.0]);
}

#[test]
fn part_of_a_head_may_rotate() {
    let mut parts = parts("qwen2");
    parts.set("qwen2.rope.dimension_count", MetaValue::U32(8));
    assert_eq!(ropes(&program_of(&parts))[0].frequencies.len(), 4);
}

#[test]
fn weights_are_views_into_the_file() {
    let file = parts("qwen2").file();
    let model = load(&file).unwrap();
    assert_eq!(model.context(), 256);
    for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
        let info = file.tensor(&model.program.tensor(index).name).unwrap();
        let bytes = model.tensor_bytes(index);
        assert_eq!(bytes.as_ptr(), file.tensor_bytes(info).as_ptr());
        assert_eq!(bytes.len(), model.program.tensor(index).bytes());
    }
}
