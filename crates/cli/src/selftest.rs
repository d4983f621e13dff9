//! `metallic selftest`: each kernel of a device against the readable reference.

use metallic::selftest::{Path, Selection, SelfTest, bound};
use serde_json::{Value, json};

use crate::args::SelftestArgs;
use crate::options::count;
use crate::output::{Output, Problem};
use crate::progress::Progress;

/// Failures that are told one by one to people.
const FAILURES_TOLD: usize = 40;

pub(crate) fn selftest(args: &SelftestArgs, out: &Output) -> anyhow::Result<()> {
    if args.require_gpu {
        args.device.require_gpu()?;
    }
    let selection = if args.all { Selection::All } else { Selection::Core };
    let threads = args.threads.map(|threads| threads as usize);
    let mut progress = Progress::of_items(out);
    let found = metallic::selftest::selftest(&args.device, threads, selection, &mut |done, total| {
        progress.set("cases", done as u64, total as u64);
    })?;
    drop(progress);
    if out.json() {
        out.print_json(&to_json(&found))?;
    } else {
        out.print(&to_text(&found))?;
    }
    verdict(&found)
}

/// A failure where anything deviates.
fn verdict(found: &SelfTest) -> anyhow::Result<()> {
    if found.failures.is_empty() {
        return Ok(());
    }
    let (wrong, cases) = (found.failures.len(), count(found.cases, "case"));
    let message = format!("{wrong} of {cases} deviate on {}: do not trust what it computes", found.placement);
    Err(Problem { kind: "deviates", message }.into())
}

fn to_json(found: &SelfTest) -> Value {
    let worst = |(path, deviation, case): &(Path, metallic::selftest::Deviation, String)| {
        json!({
            "path": format!("{path:?}"),
            "nmse": deviation.nmse,
            "nmse_limit": bound(*path).nmse,
            "largest": deviation.largest,
            "largest_limit": bound(*path).largest,
            "case": case,
        })
    };
    json!({
        "device": found.placement.backend,
        "name": found.placement.gpu.as_ref().map(|gpu| &gpu.name),
        "description": found.description,
        "cases": found.cases,
        "failures": found.failures,
        "worst": found.worst.iter().map(worst).collect::<Vec<Value>>(),
    })
}

fn to_text(found: &SelfTest) -> String {
    let mut text = format!("{}\n", found.placement);
    let mut table = crate::output::table(&["compared", "worst NMSE", "limit", "worst element", "limit", "case"]);
    for (path, deviation, case) in &found.worst {
        let limit = bound(*path);
        table.add_row([
            format!("{path:?}"),
            format!("{:.1e}", deviation.nmse),
            format!("{:.0e}", limit.nmse),
            format!("{:.1e}", deviation.largest),
            format!("{:.0e}", limit.largest),
            case.clone(),
        ]);
    }
    text += &format!("{table}\n");
    for failure in found.failures.iter().take(FAILURES_TOLD) {
        text += &format!("deviates: {failure}\n");
    }
    if found.failures.len() > FAILURES_TOLD {
        text += &format!("and {} more\n", found.failures.len() - FAILURES_TOLD);
    }
    let cases = count(found.cases, "case");
    match found.failures.len() {
        0 => text + &format!("{cases}, all as the reference computes them\n"),
        wrong => text + &format!("{cases}, {wrong} deviate\n"),
    }
}

#[cfg(test)]
mod tests {
    use metallic::Placement;
    use metallic::device::Reason;

    use super::*;

    #[test]
    fn a_case_that_deviates_is_named_and_fails_the_command() {
        let placement = Placement { backend: "cpu", gpu: None, reason: Reason::Asked };
        let clean = SelfTest { placement, description: String::new(), cases: 2, failures: vec![], worst: vec![] };
        assert!(verdict(&clean).is_ok());
        assert!(to_text(&clean).ends_with("2 cases, all as the reference computes them\n"));
        let wrong = SelfTest { failures: vec!["down Q4_K 768".to_owned()], ..clean };
        let error = verdict(&wrong).unwrap_err();
        assert_eq!(error.downcast_ref::<Problem>().map(|problem| problem.kind), Some("deviates"));
        assert!(error.to_string().contains("1 of 2 cases"));
        let text = to_text(&wrong);
        assert!(text.contains("deviates: down Q4_K 768") && text.ends_with("2 cases, 1 deviate\n"), "{text}");
    }
}
