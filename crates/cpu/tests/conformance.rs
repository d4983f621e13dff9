//! The fast backend against the readable one, on every instruction set of this machine.

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, ReferenceBackend, Repack};
use program::Backend;
use testkit::conformance::{Ignored, Selection, Suite};
use testkit::tolerance::{Path, bound};

/// Cases that may fail, with reasons. Empty: nothing is known to be wrong.
const IGNORED: &[Ignored] = &[];

#[test]
fn every_step_in_every_format_agrees_with_the_reference() {
    let suite = Suite::new(Selection::All, &mut || Box::new(ReferenceBackend::new()));
    assert!(suite.names().count() > 600);
    for isa in [IsaChoice::Best, IsaChoice::WithoutVnni, IsaChoice::AtMostAvx2, IsaChoice::Portable] {
        for (threads, repack) in [(1, Repack::First), (2, Repack::Never), (3, Repack::Behind)] {
            let config = CpuConfig { threads, isa, repack };
            let mut make = || -> Box<dyn Backend> { Box::new(CpuBackend::new(config).unwrap()) };
            let report = suite.check(&mut make, IGNORED);
            report.assert_clean(&format!("{isa:?}, {threads} threads, {repack:?}"));
            for (path, (worst, case)) in report.worst {
                // A bound that nothing comes near would let errors through.
                // A code that falls on the other side of a tie shows in one element, wherever that happens to be.
                let flipped = path == Path::CodedPages && worst.largest * 3.0 > bound(path).largest;
                let near = path == Path::Exact || flipped || worst.nmse * 10.0 > bound(path).nmse;
                assert!(near, "{path:?}: the worst is {worst:?} ({case}), the bound {:?}", bound(path));
            }
        }
    }
}
