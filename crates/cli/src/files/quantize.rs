//! `metallic quantize`: a model with smaller weights.

use std::collections::BTreeMap;

use metallic::Error;
use metallic::gguf::GgufFile;
use metallic::tensor::Format;
use metallic::tools::Importance;
use metallic::tools::mix::{Mix, weight_format};
use metallic::tools::quantize::{
    self, OutputFormat, Override, PlannedTensor, QuantizeOptions, QuantizedTensor, Reason,
};
use serde_json::{Value, json};

use super::{mib, open, threads, watched};
use crate::args::QuantizeArgs;
use crate::options::count;
use crate::output::{Output, Problem, table};

pub(crate) fn quantize(args: &QuantizeArgs, out: &Output) -> anyhow::Result<()> {
    // What was asked is settled before a large file is looked at.
    let mix = Mix::from_name(&args.mix).map_err(Error::from)?;
    let importance = args.imatrix.as_deref().map(Importance::read).transpose().map_err(Error::from)?;
    let options = QuantizeOptions {
        mix,
        pure: args.pure,
        output: match &args.output_tensor_type {
            _ if args.leave_output_tensor => OutputFormat::Keep,
            Some(name) => OutputFormat::Fixed(format(name)?),
            None => OutputFormat::ByMix,
        },
        embedding: args.token_embedding_type.as_deref().map(format).transpose()?,
        overrides: args.tensor_type.iter().map(|text| tensor_type(text)).collect::<anyhow::Result<_>>()?,
        importance: importance.as_ref(),
        importance_name: args.imatrix.as_ref().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        keep_split: args.keep_split,
        threads: threads(args.threads),
    };
    let file = open(&args.files.input)?;
    let plan = quantize::plan(&file, &options).map_err(Error::from)?;
    tell(&plan, args, out);
    let (files, tensors) = if args.dry_run {
        let planned = plan.into_iter().map(|plan| QuantizedTensor { plan, relative_error: None });
        (Vec::new(), planned.collect())
    } else {
        watched(out, |watch| quantize::quantize(&file, &args.files.output, &options, watch))?
    };
    if out.json() {
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let tensors: Vec<Value> = tensors.iter().map(tensor_json).collect();
        return out.print_json(&json!({"type": mix.info().name, "files": files, "tensors": tensors}));
    }
    out.print(&summary(&file, &tensors))
}

fn format(name: &str) -> anyhow::Result<Format> {
    Ok(weight_format(name).map_err(Error::from)?)
}

fn tensor_type(text: &str) -> anyhow::Result<Override> {
    let (pattern, name) = text
        .rsplit_once('=')
        .ok_or_else(|| Problem::input(format!("--tensor-type {text}: write PATTERN=TYPE, such as attn_v=Q6_K")))?;
    Ok(Override::new(pattern, format(name)?).map_err(Error::from)?)
}

/// What a person must know: formats that did not fit, weights that lose twice, formats that want an importance matrix.
fn tell(plan: &[PlannedTensor], args: &QuantizeArgs, out: &Output) {
    let mut fallbacks: BTreeMap<(Format, Format, String), usize> = BTreeMap::new();
    for tensor in plan {
        if let Reason::Fallback { wanted } = tensor.reason {
            *fallbacks.entry((wanted, tensor.to, family(&tensor.name))).or_default() += 1;
        }
    }
    for ((wanted, to, family), tensors) in fallbacks {
        let (block, tensors) = (wanted.block_elements(), count(tensors, "tensor"));
        out.warn(format_args!(
            "{family}: {tensors} become {to} rather than {wanted}, whose blocks of {block} do not divide the rows"
        ));
    }
    let twice: Vec<&PlannedTensor> = plan.iter().filter(|tensor| tensor.is_requantised()).collect();
    if let Some(first) = twice.first()
        && !args.allow_requantize
    {
        let (tensors, from) = (count(twice.len(), "tensor"), first.from);
        out.warn(format_args!(
            "{tensors}, such as {} in {from}, were quantised before, and that loss stays; an F16 or F32 original gives \
             a better result (--allow-requantize silences this)",
            first.name
        ));
    }
    let poor: Vec<&PlannedTensor> = plan.iter().filter(|tensor| tensor.lacks_importance()).collect();
    if let Some(first) = poor.first() {
        let (tensors, to) = (count(poor.len(), "tensor"), first.to);
        out.warn(format_args!(
            "{tensors}, such as {} in {to}, have no importance matrix, without which the result is poor: make one with \
             `metallic imatrix` and give it with --imatrix",
            first.name
        ));
    }
}

/// `blk.*.attn_q.weight` for a tensor of any layer.
fn family(name: &str) -> String {
    let parts = name.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

fn tensor_json(tensor: &QuantizedTensor) -> Value {
    let QuantizedTensor { plan, relative_error } = tensor;
    let (reason, wanted) = match plan.reason {
        Reason::Kept => ("kept", None),
        Reason::Mix => ("type", None),
        Reason::Asked => ("asked", None),
        Reason::Fallback { wanted } => ("fallback", Some(wanted.name())),
    };
    json!({
        "name": plan.name,
        "from": plan.from.name(),
        "to": plan.to.name(),
        "reason": reason,
        "wanted": wanted,
        "importance": plan.importance,
        "bytes_before": plan.bytes_before,
        "bytes_after": plan.bytes_after,
        "relative_error": relative_error,
    })
}

/// Tensors and bytes of each format, and all together.
fn summary(file: &GgufFile, tensors: &[QuantizedTensor]) -> String {
    let mut formats: Vec<(Format, usize, u64, f64)> = Vec::new();
    for QuantizedTensor { plan, relative_error } in tensors {
        let error = relative_error.unwrap_or(0.0);
        match formats.iter_mut().find(|known| known.0 == plan.to) {
            Some(known) => *known = (known.0, known.1 + 1, known.2 + plan.bytes_after, known.3.max(error)),
            None => formats.push((plan.to, 1, plan.bytes_after, error)),
        }
    }
    formats.sort_by_key(|format| std::cmp::Reverse(format.2));
    let mut rows = table(&["format", "tensors", "size", "largest error"]);
    for (format, tensors, bytes, error) in &formats {
        rows.add_row([format.to_string(), tensors.to_string(), mib(*bytes), format!("{:.3} %", 100.0 * error)]);
    }
    let sum = |bytes: fn(&PlannedTensor) -> u64| tensors.iter().map(|tensor| bytes(&tensor.plan)).sum::<u64>();
    let (before, after) = (sum(|plan| plan.bytes_before), sum(|plan| plan.bytes_after));
    let weights: u64 = file.tensors().iter().filter_map(|tensor| tensor.shape().elements()).sum();
    let bits = after as f64 * 8.0 / weights.max(1) as f64;
    format!("{rows}\n{} before, {} after: {bits:.2} bits a weight\n", mib(before), mib(after))
}
