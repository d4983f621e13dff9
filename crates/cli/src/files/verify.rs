//! `metallic verify`: whether a file is whole and sound. Exits with 1 where it is not.

use metallic::gguf::Access;
use metallic::tools::verify::{self, Finding, Report, VerifyOptions};

use super::{mib, threads, watched};
use crate::args::VerifyArgs;
use crate::options::count;
use crate::output::{Output, Unsound};

pub(crate) fn verify(args: &VerifyArgs, out: &Output) -> anyhow::Result<()> {
    let options = VerifyOptions {
        file_hashes: !args.no_hashes,
        tensor_hashes: args.tensor_hashes,
        pre_tokenizer: args.pre.clone(),
        access: if args.no_mmap { Access::Read } else { Access::Map },
        threads: threads(args.threads),
    };
    let report = watched(out, |watch| verify::verify(&args.file, &options, watch))?;
    if out.json() {
        out.print_json(&report)?;
    } else {
        out.print(&text(&report))?;
    }
    if report.ok { Ok(()) } else { Err(Unsound.into()) }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for (word, findings) in [("problem", &report.problems), ("warning", &report.warnings)] {
        for Finding { check, tensor, message } in findings {
            let place = tensor.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
            text.push_str(&format!("{word}: {check}{place}: {message}\n"));
        }
    }
    for tensor in &report.tensor_hashes {
        text.push_str(&format!("{}  {}\n", tensor.sha256, tensor.name));
    }
    for file in &report.files {
        let hash = file.sha256.as_deref().unwrap_or("not hashed");
        text.push_str(&format!("{hash}  {} ({})\n", file.path.display(), mib(file.bytes)));
    }
    let verdict = if report.ok { "sound" } else { "not sound" };
    let (tensors, values, problems) = (report.tensors, report.values, report.problems.len());
    text.push_str(&format!(
        "{verdict}: {}, {values} values, {}, {}\n",
        count(tensors, "tensor"),
        count(problems, "problem"),
        count(report.warnings.len(), "warning")
    ));
    text
}
