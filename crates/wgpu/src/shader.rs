//! Kernels: WGSL files joined with the constants of one use, and the pipelines made of them.
//!
//! Sizes that shape loops and arrays are constants in front of the source; nothing else of a shader is generated but the
//! choice of a format's function.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::device::Gpu;
use crate::planes::Layout;

/// A kernel's source for any number of rows of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// For messages.
    pub(crate) name: String,
    /// Bindings by position.
    pub(crate) bindings: &'static [Binding],
    /// Constants and format functions in front.
    head: String,
    files: Vec<&'static str>,
    /// How kernels for few rows share work, where there is one pipeline for each of [`BATCHES`].
    few: Option<FewRows>,
    /// Whether it uses matrix units.
    matrix_units: bool,
}

/// Rows of a pass that kernels for few rows are made for; a pass takes the least that holds its own.
pub(crate) const BATCHES: [usize; 4] = [1, 2, 4, 8];

/// Most rows of a pass that those kernels take.
pub(crate) const FEW_ROWS: usize = BATCHES[BATCHES.len() - 1];

/// How a kernel for few rows shares its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FewRows {
    /// With one row of the pass.
    pub(crate) single: Sharing,
    /// With several.
    pub(crate) several: Sharing,
}

/// How a workgroup of `matvec.wgsl` shares its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sharing {
    /// Outputs that a team of lanes makes at a time.
    pub(crate) rows: usize,
    /// Units of 32 inputs that a lane reads at a time.
    pub(crate) ahead: usize,
    /// Teams that share a row's inputs.
    pub(crate) shares: usize,
    /// Threads of the workgroup.
    pub(crate) threads: usize,
}

/// What a kernel does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Binding {
    /// The shader has no such binding.
    Absent,
    Read,
    Write,
}

use Binding::{Absent, Read, Write as ReadWrite};

pub(crate) const MATVEC: &[Binding] = &[Read, Read, Read, Read, ReadWrite];
pub(crate) const MATVEC_HANDING_ON: &[Binding] = &[Read, Read, Read, Read, ReadWrite, ReadWrite];
pub(crate) const GEMM: &[Binding] = &[Read, Read, Read, Read, ReadWrite];
pub(crate) const GEMM_MATRIX_UNITS: &[Binding] = &[Read, Read, Read, Read, ReadWrite, Read];
pub(crate) const EMBED: &[Binding] = &[Read, Absent, Read, Absent, ReadWrite];
pub(crate) const EMBED_AND_PREPARE: &[Binding] = &[Read, Read, ReadWrite, ReadWrite, ReadWrite, Read];
pub(crate) const PREPARE: &[Binding] = &[Read, Read, Read, ReadWrite, ReadWrite];
pub(crate) const ROPE_STORE: &[Binding] = &[Read, Read, Read, ReadWrite, ReadWrite];
pub(crate) const ATTENTION_ROWS: &[Binding] = &[Read, Read, Read, Read, ReadWrite, ReadWrite, ReadWrite];
pub(crate) const ATTENTION_ROWS_SPLIT: &[Binding] = &[Read, Read, Read, Read, ReadWrite, ReadWrite];
pub(crate) const ATTENTION_MERGE: &[Binding] = &[Read, Absent, Absent, Absent, Absent, ReadWrite, ReadWrite, ReadWrite];
pub(crate) const ATTENTION_TILES: &[Binding] = &[Read, Read, Read, Read, Read, ReadWrite, Read];
pub(crate) const ARGMAX: &[Binding] = &[Absent, Read, ReadWrite];
pub(crate) const CHOOSE: &[Binding] = &[Absent, Absent, Absent, Absent, Absent, ReadWrite, Read, ReadWrite];
pub(crate) const CHOOSE_AND_EMBED: &[Binding] =
    &[Read, Read, ReadWrite, ReadWrite, ReadWrite, ReadWrite, Read, ReadWrite];
pub(crate) const TOP: &[Binding] = &[Absent, Read, ReadWrite];
pub(crate) const DRAW: &[Binding] = &[Absent, Read, Read, Read, ReadWrite, ReadWrite, Absent, ReadWrite];
pub(crate) const READ_RATE: &[Binding] = &[Read, ReadWrite];
pub(crate) const ADD_NORMED: &[Binding] = &[Read, Read, ReadWrite];

pub(crate) const GEMM_FILES: &[&str] = &["common.wgsl", "one_matrix.wgsl", "outputs.wgsl", "put.wgsl", "gemm.wgsl"];
pub(crate) const GEMM_MATRIX_UNITS_FILES: &[&str] =
    &["common.wgsl", "one_matrix.wgsl", "outputs.wgsl", "put.wgsl", "gemm_matrix_units.wgsl"];

/// Bytes of a kernel's parameters at most: what every interface gives.
pub(crate) const PARAMETER_BYTES: u32 = 128;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// Every WGSL file, by its path under `shaders`.
        pub(crate) const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("shaders/", $name)))),*];
    };
}

files!(
    "add_normed.wgsl",
    "argmax.wgsl",
    "attention_matrix_units.wgsl",
    "attention_merge.wgsl",
    "attention_rows.wgsl",
    "attention_tiles.wgsl",
    "choose.wgsl",
    "choose_alone.wgsl",
    "choose_and_embed.wgsl",
    "common.wgsl",
    "draw.wgsl",
    "embed.wgsl",
    "embed_and_prepare.wgsl",
    "embedded.wgsl",
    "encode.wgsl",
    "finish_head.wgsl",
    "finish_split.wgsl",
    "formats/bf16.wgsl",
    "formats/f16.wgsl",
    "formats/f32.wgsl",
    "formats/iq4_levels.wgsl",
    "formats/iq4_nl.wgsl",
    "formats/iq4_xs.wgsl",
    "formats/k_header.wgsl",
    "formats/levels.wgsl",
    "formats/mxfp4.wgsl",
    "formats/q2_k.wgsl",
    "formats/q3_k.wgsl",
    "formats/q4_0.wgsl",
    "formats/q4_1.wgsl",
    "formats/q4_k.wgsl",
    "formats/q5_0.wgsl",
    "formats/q5_1.wgsl",
    "formats/q5_k.wgsl",
    "formats/q6_k.wgsl",
    "formats/q8_0.wgsl",
    "gemm.wgsl",
    "gemm_matrix_units.wgsl",
    "hand_on_block.wgsl",
    "hand_on_head.wgsl",
    "hand_on_nothing.wgsl",
    "heads.wgsl",
    "kv_codes.wgsl",
    "kv_halves.wgsl",
    "largest.wgsl",
    "look_up.wgsl",
    "matvec.wgsl",
    "matvec_codes.wgsl",
    "matvec_values.wgsl",
    "next_pass.wgsl",
    "one_matrix.wgsl",
    "outputs.wgsl",
    "own_codes.wgsl",
    "own_halves.wgsl",
    "pass.wgsl",
    "prepare.wgsl",
    "prepared.wgsl",
    "put.wgsl",
    "quantised.wgsl",
    "ranked.wgsl",
    "read_rate.wgsl",
    "rope_store.wgsl",
    "store_codes.wgsl",
    "store_halves.wgsl",
    "tile_codes.wgsl",
    "tile_halves.wgsl",
    "top.wgsl",
);

fn file(name: &str) -> &'static str {
    FILES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no shader file is called {name}")).1
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, bindings: &'static [Binding], files: &[&'static str]) -> Source {
        Source {
            name: name.into(),
            bindings,
            head: String::new(),
            files: files.to_vec(),
            few: None,
            matrix_units: false,
        }
    }

    /// One pipeline for each of [`BATCHES`], which the shader knows as `BATCH`.
    pub(crate) fn batched(mut self, few: FewRows) -> Source {
        self.few = Some(few);
        self
    }

    /// The shader uses matrix units.
    pub(crate) fn matrix_units(mut self) -> Source {
        self.matrix_units = true;
        self
    }

    /// A constant that is a count.
    pub(crate) fn count(mut self, name: &str, value: usize) -> Source {
        let _ = writeln!(self.head, "const {name}: u32 = {value}u;");
        self
    }

    /// Several of them.
    pub(crate) fn counts(self, counts: &[(&str, u32)]) -> Source {
        counts.iter().fold(self, |source, (name, value)| source.count(name, *value as usize))
    }

    /// Declarations in front of the files.
    pub(crate) fn text_in_front(mut self, text: &str) -> Source {
        self.head += text;
        self
    }

    /// A constant that is a number.
    pub(crate) fn number(mut self, name: &str, value: f32) -> Source {
        let _ = writeln!(self.head, "const {name}: f32 = {value:e}f;");
        self
    }

    /// A constant that is true or false.
    pub(crate) fn flag(mut self, name: &str, value: bool) -> Source {
        let _ = writeln!(self.head, "const {name}: bool = {value};");
        self
    }

    /// `unit_of(part, matrix, unit)` and `numbers_of` for matrices in these formats.
    pub(crate) fn formats(mut self, layouts: &[Layout]) -> Source {
        let mut names: Vec<&'static str> = Vec::new();
        for layout in layouts {
            if !names.contains(&layout.name) {
                names.push(layout.name);
                for shared in shared_files(layout) {
                    if !self.files.contains(shared) {
                        self.files.push(shared);
                    }
                }
                let path = FILES.iter().find(|(path, _)| *path == format!("formats/{}.wgsl", layout.name));
                self.files.push(path.expect("every layout has a shader file").0);
            }
        }
        if layouts.iter().all(|layout| layout.coded) {
            self.choose("unit_of", "Unit", layouts, |layout| format!("unit_{}(m, i)", layout.name));
        }
        self.choose("numbers_of", "Values", layouts, |layout| match layout.coded {
            true => format!("values_of(unit_{}(m, i))", layout.name),
            false => format!("values_{}(m, i)", layout.name),
        });
        self
    }

    /// `fetched(matrix, unit)` and `numbers_in` of what it returns, so that unpacking can wait for the load.
    pub(crate) fn fetched(mut self, layout: &Layout) -> Source {
        let name = layout.name;
        self.head += &if layout.coded {
            format!(
                "fn fetched(m: Matrix, i: u32) -> Unit {{ return unit_{name}(m, i); }}\n\
                 fn numbers_in(unit: Unit) -> Values {{ return values_of(unit); }}\n"
            )
        } else {
            format!(
                "fn fetched(m: Matrix, i: u32) -> Values {{ return values_{name}(m, i); }}\n\
                 fn numbers_in(values: Values) -> Values {{ return values; }}\n"
            )
        };
        self
    }

    fn choose(&mut self, name: &str, result: &str, layouts: &[Layout], call: impl Fn(&Layout) -> String) {
        let _ = write!(self.head, "fn {name}(part: u32, m: Matrix, i: u32) -> {result} {{ ");
        let last = layouts.len() - 1;
        if layouts.iter().any(|layout| layout.name != layouts[last].name) {
            for (part, layout) in layouts[..last].iter().enumerate() {
                let _ = write!(self.head, "if (part == {part}u) {{ return {}; }} ", call(layout));
            }
        }
        let _ = writeln!(self.head, "return {}; }}", call(&layouts[last]));
    }

    /// The whole text, for passes of at most `batch` rows.
    pub(crate) fn text(&self, batch: usize) -> String {
        let mut text = String::new();
        if self.matrix_units {
            text.push_str("enable f16;\nenable wgpu_cooperative_matrix;\n");
        }
        if let Some(few) = self.few {
            let Sharing { rows, ahead, shares, threads } = if batch == 1 { few.single } else { few.several };
            let _ = writeln!(
                text,
                "const BATCH: u32 = {batch}u;\nconst ROWS: u32 = {rows}u;\nconst AHEAD: u32 = {ahead}u;\n\
                 const SHARES: u32 = {shares}u;\nconst THREADS: u32 = {threads}u;"
            );
        }
        text.push_str(&self.head);
        for name in &self.files {
            text.push_str(file(name));
        }
        text
    }

    /// The batches that this source has a pipeline for.
    pub(crate) fn batches(&self) -> &'static [usize] {
        if self.few.is_some() { &BATCHES } else { &BATCHES[..1] }
    }
}

/// Files that functions of several formats need.
fn shared_files(layout: &Layout) -> &'static [&'static str] {
    match layout.name {
        "q4_k" | "q5_k" => &["formats/k_header.wgsl"],
        "iq4_nl" | "iq4_xs" => &["formats/levels.wgsl", "formats/iq4_levels.wgsl"],
        "mxfp4" => &["formats/levels.wgsl"],
        _ => &[],
    }
}

/// Position of a kernel among [`Kernels`].
pub(crate) type KernelId = usize;

struct Kernel {
    source: Source,
    layout: Arc<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    pipelines: [OnceLock<wgpu::ComputePipeline>; BATCHES.len()],
}

impl Kernel {
    /// Index of the batch for passes of `rows`.
    fn batch(&self, rows: usize) -> usize {
        let batches = self.source.batches();
        batches.iter().position(|batch| rows <= *batch).unwrap_or(batches.len() - 1)
    }
}

/// Every kernel of a device; pipelines are made when they are first used.
#[derive(Default)]
pub(crate) struct Kernels {
    kernels: Vec<Kernel>,
    known: HashMap<Source, KernelId>,
    layouts: HashMap<&'static [Binding], Arc<(wgpu::BindGroupLayout, wgpu::PipelineLayout)>>,
}

impl Kernels {
    pub(crate) fn kernel(&mut self, gpu: &Gpu, source: Source) -> KernelId {
        if let Some(id) = self.known.get(&source) {
            return *id;
        }
        let layout =
            self.layouts.entry(source.bindings).or_insert_with(|| Arc::new(pipeline_layout(gpu, source.bindings)));
        let layout = Arc::clone(layout);
        self.kernels.push(Kernel { source: source.clone(), layout, pipelines: Default::default() });
        self.known.insert(source, self.kernels.len() - 1);
        self.kernels.len() - 1
    }

    /// Every source so far.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.kernels.iter().map(|kernel| &kernel.source)
    }

    /// Binds buffers, one for each binding that is not absent, in order.
    pub(crate) fn bind(&self, gpu: &Gpu, id: KernelId, buffers: &[wgpu::BufferBinding<'_>]) -> wgpu::BindGroup {
        let kernel = &self.kernels[id];
        let present = (0_u32..).zip(kernel.source.bindings).filter(|(_, binding)| **binding != Absent);
        let entries: Vec<wgpu::BindGroupEntry<'_>> = present
            .zip(buffers)
            .map(|((binding, _), buffer)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(buffer.clone()),
            })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&kernel.source.name),
            layout: &kernel.layout.0,
            entries: &entries,
        })
    }

    /// Makes the pipelines of `wanted` kernels, for passes of so many rows, that there are not yet; several at a time, as
    /// compilers take long.
    pub(crate) fn make(&self, gpu: &Gpu, wanted: impl Iterator<Item = (KernelId, usize)>) {
        let missing: Vec<(KernelId, usize)> = wanted
            .filter(|(id, rows)| self.kernels[*id].pipelines[self.kernels[*id].batch(*rows)].get().is_none())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let workers = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((id, rows)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.pipeline(gpu, *id, *rows);
            }
        };
        thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
    }

    /// The pipeline for passes of at most `rows`, which must be within [`FEW_ROWS`] for a batched kernel.
    pub(crate) fn pipeline(&self, gpu: &Gpu, id: KernelId, rows: usize) -> &wgpu::ComputePipeline {
        let kernel = &self.kernels[id];
        let index = kernel.batch(rows);
        kernel.pipelines[index].get_or_init(|| pipeline(gpu, kernel, kernel.source.batches()[index]))
    }
}

fn pipeline_layout(gpu: &Gpu, bindings: &[Binding]) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    let entry = |binding: u32, kind: Binding| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match kind {
                ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                Absent | Read => wgpu::BufferBindingType::Storage { read_only: true },
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let present = (0..).zip(bindings).filter(|(_, kind)| **kind != Absent);
    let entries: Vec<wgpu::BindGroupLayoutEntry> = present.map(|(binding, kind)| entry(binding, *kind)).collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    let group = gpu.device.create_bind_group_layout(&descriptor);
    let layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: PARAMETER_BYTES,
    });
    (group, layout)
}

fn pipeline(gpu: &Gpu, kernel: &Kernel, batch: usize) -> wgpu::ComputePipeline {
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(&kernel.source.name),
        source: wgpu::ShaderSource::Wgsl(kernel.source.text(batch).into()),
    };
    // SAFETY: the sources are this crate's own. Their indices stay within the buffers that `executable` allocates for
    // passes that `input_check` has let through, and their loops end, so the checks would find nothing.
    let module = unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
    gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&kernel.source.name),
        layout: Some(&kernel.layout.1),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    })
}

#[cfg(test)]
mod tests {
    use tensor::Format;

    use super::*;

    #[test]
    fn shaders_for_matrix_units_are_valid() {
        let mut sources = Vec::new();
        for format in [Format::Q4_K, Format::Q8_0, Format::F16] {
            let layout = Layout::of(format).expect("a format with a kernel");
            sources.push(
                Source::new("gemm", GEMM_MATRIX_UNITS, GEMM_MATRIX_UNITS_FILES)
                    .matrix_units()
                    .count("MODE", 2)
                    .flag("HEAD", false)
                    .formats(&[layout])
                    .fetched(&layout),
            );
        }
        let counts = [
            ("ROWS_MAX", 64),
            ("LOGIT_ROWS_MAX", 8),
            ("HEADS", 14),
            ("KV_HEADS", 2),
            ("WIDTH", 64),
            ("PAIRS", 32),
            ("STRIDE", 1152),
            ("PASS_WORDS", 4096),
            ("PAGES", 64),
            ("VALUES", 4096),
            ("SCALES", 32768),
            ("VALUE_SCALES", 33792),
            ("WINDOW", 0),
            ("OUTPUT_STRIDE", 896),
        ];
        for files in [&["tile_halves.wgsl"][..], &["kv_codes.wgsl", "tile_codes.wgsl"]] {
            let files = [&["pass.wgsl", "heads.wgsl", "attention_matrix_units.wgsl"], files].concat();
            sources.push(
                Source::new("attention", ATTENTION_TILES, &files)
                    .matrix_units()
                    .counts(&counts)
                    .number("SCALE", 0.125)
                    .number("SOFT_CAP", 0.0)
                    .flag("INTERLEAVED", false),
            );
        }
        for source in sources {
            let text = source.text(1);
            let module =
                naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
            let mut validator =
                naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
            let info = validator.validate(&module).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
            let options = naga::back::spv::Options { lang_version: (1, 6), ..Default::default() };
            let words = naga::back::spv::write_vec(&module, &info, &options, None).expect("lowers to SPIR-V");
            assert!(!words.is_empty());
        }
    }
}
