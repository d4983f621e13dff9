//! `metallic split` and `metallic merge`: one model, several files, and back.

use metallic::Error;
use metallic::tools::split::{self, PlannedShard, SplitLimit, SplitOptions};
use serde_json::json;

use super::{mib, open, watched};
use crate::args::{MergeArgs, SplitArgs};
use crate::options::count;
use crate::output::{Output, table};

pub(crate) fn split(args: &SplitArgs, out: &Output) -> anyhow::Result<()> {
    let file = open(&args.files.input)?;
    let limit = match args.split_max_size {
        Some(bytes) => SplitLimit::Bytes(bytes),
        None => SplitLimit::Tensors(args.split_max_tensors as usize),
    };
    let options = SplitOptions { limit, empty_first: args.no_tensor_first_split };
    let shards = if args.dry_run {
        split::plan(&file, &args.files.output, options).map_err(Error::from)?
    } else {
        watched(out, |watch| split::split(&file, &args.files.output, options, watch))?
    };
    if let SplitLimit::Bytes(limit) = limit {
        for shard in shards.iter().filter(|shard| shard.tensor_bytes > limit) {
            out.warn(format_args!(
                "{} is over the limit: one tensor has {}",
                shard.path.display(),
                mib(shard.tensor_bytes)
            ));
        }
    }
    if out.json() {
        let shard = |shard: &PlannedShard| {
            let path = shard.path.display().to_string();
            json!({"path": path, "tensors": shard.tensors.len(), "tensor_bytes": shard.tensor_bytes})
        };
        return out.print_json(&json!({"files": shards.iter().map(shard).collect::<Vec<_>>()}));
    }
    let mut rows = table(&["file", "tensors", "size"]);
    for shard in &shards {
        let path = shard.path.display().to_string();
        rows.add_row([path, shard.tensors.len().to_string(), mib(shard.tensor_bytes)]);
    }
    out.print(&format!("{rows}\n"))
}

pub(crate) fn merge(args: &MergeArgs, out: &Output) -> anyhow::Result<()> {
    let file = open(&args.files.input)?;
    watched(out, |watch| split::merge(&file, &args.files.output, watch))?;
    let (path, tensors, shards) = (args.files.output.display(), file.tensors().len(), file.shard_count());
    if out.json() {
        return out.print_json(&json!({"file": path.to_string(), "tensors": tensors, "shards": shards}));
    }
    out.print(&format!("{path}: {} of {}\n", count(tensors, "tensor"), count(shards, "file")))
}
