//! The conformance suite finds what is wrong, and nothing else.

use std::ops::Range;
use std::sync::Arc;

use cpu::ReferenceBackend;
use metallic_testkit::conformance::{Ignored, Selection, Suite};
use program::{
    Backend, BackendError, Buffer, Capabilities, ExecutableId, Fence, KvPlan, LedgerRow, PassInput, Program, RowBucket,
    Segment, Step, Support, TensorBytes, TensorIndex,
};
use tensor::Format;

/// What a [`Broken`] backend does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// One number of the last row that is read is off by a fifth of the row's largest.
    OneNumber,
    /// Every position is one too high.
    Positions,
    /// No format but F32.
    Refuses,
}

/// The reference with a fault.
struct Broken {
    inner: ReferenceBackend,
    fault: Fault,
}

impl Backend for Broken {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn support(&self, step: &Step, formats: &[Format]) -> Support {
        match self.fault {
            Fault::Refuses if formats.iter().any(|format| *format != Format::F32) => Support::No,
            _ => self.inner.support(step, formats),
        }
    }

    fn compile(&mut self, program: &Arc<Program>, rows: RowBucket) -> Result<ExecutableId, BackendError> {
        self.inner.compile(program, rows)
    }

    fn allocate(&mut self, executable: ExecutableId, plan: KvPlan) -> Result<(), BackendError> {
        self.inner.allocate(executable, plan)
    }

    fn upload(&mut self, id: ExecutableId, tensor: TensorIndex, bytes: TensorBytes) -> Result<Fence, BackendError> {
        self.inner.upload(id, tensor, bytes)
    }

    fn submit(&mut self, id: ExecutableId, segment: &Segment, input: &PassInput<'_>) -> Result<Fence, BackendError> {
        let positions: Vec<u32> = match self.fault {
            Fault::Positions => input.positions.iter().map(|position| position + 1).collect(),
            Fault::OneNumber | Fault::Refuses => input.positions.to_vec(),
        };
        self.inner.submit(id, segment, &PassInput { positions: &positions, ..*input })
    }

    fn wait(&mut self, fence: Fence) -> Result<(), BackendError> {
        self.inner.wait(fence)
    }

    fn read(
        &mut self,
        executable: ExecutableId,
        buffer: Buffer,
        rows: Range<usize>,
        into: &mut [f32],
    ) -> Result<(), BackendError> {
        let count = rows.len();
        self.inner.read(executable, buffer, rows, into)?;
        if self.fault == Fault::OneNumber {
            let width = into.len() / count;
            let last = &mut into[(count - 1) * width..];
            let largest = last.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            last[0] += 0.2 * largest;
        }
        Ok(())
    }

    fn take_ledger(&mut self) -> Vec<LedgerRow> {
        self.inner.take_ledger()
    }
}

fn broken(fault: Fault) -> impl FnMut() -> Box<dyn Backend> {
    move || Box::new(Broken { inner: ReferenceBackend::new(), fault })
}

fn suite() -> Suite {
    Suite::new(Selection::All, &mut || Box::new(ReferenceBackend::new()))
}

#[test]
fn the_reference_agrees_with_itself_and_a_wrong_number_is_found_in_every_case() {
    let suite = suite();
    let itself = suite.check(&mut || Box::new(ReferenceBackend::new()), &[]);
    itself.assert_clean("reference");
    assert_eq!(itself.checked, suite.names().count());
    assert!(itself.worst.values().all(|(deviation, _)| deviation.nmse == 0.0));

    let wrong = suite.check(&mut broken(Fault::OneNumber), &[]);
    assert_eq!(wrong.failures.len(), wrong.checked, "a case that passes anything: {:?}", suite.names().next());
}

#[test]
fn wrong_positions_fail_where_positions_count() {
    let suite = suite();
    let report = suite.check(&mut broken(Fault::Positions), &[]);
    let fails = |name: &str| report.failures.iter().any(|failure| failure.starts_with(name));
    for name in suite.names().filter(|name| name.starts_with("rope:") && !name.contains("no rope")) {
        assert!(fails(name), "{name}");
    }
    assert!(!fails("rope: no rope") && !fails("embed F32 32"));
}

#[test]
fn what_is_refused_must_be_on_the_list_and_the_list_must_be_needed() {
    let suite = suite();
    let refused = suite.check(&mut broken(Fault::Refuses), &[]);
    assert!(refused.failures.iter().any(|failure| failure.starts_with("down Q4_K") && failure.contains("supported")));

    let list =
        [Ignored { cases: "down Q4_K", reason: "refused" }, Ignored { cases: "down Q9_9", reason: "no such format" }];
    let report = suite.check(&mut broken(Fault::Refuses), &list);
    assert!(!report.failures.iter().any(|failure| failure.starts_with("down Q4_K")));
    assert!(report.failures[0].contains("Q9_9") && report.failures[0].contains("no such format"));
    assert_eq!(report.checked + report.ignored, suite.names().count());
    assert!(report.ignored >= 2);
}
