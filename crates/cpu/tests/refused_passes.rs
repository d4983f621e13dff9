//! A pass that breaks a promise is refused by name and number, before anything is computed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, ReferenceBackend, Repack};
use program::{
    Backend, BackendError, ExecutableId, KvFormat, KvPlan, PageTable, PassInput, RowBucket, Segment, TensorIndex,
};
use testkit::TinyModel;

const PAGES: usize = 4;

/// Backends with a tiny model of one page pool, for passes of at most 80 rows.
fn backends(model: &models::Model) -> [(Box<dyn Backend>, ExecutableId); 2] {
    let fast = CpuBackend::new(CpuConfig { threads: 2, isa: IsaChoice::Best, repack: Repack::First }).unwrap();
    let both: [Box<dyn Backend>; 2] = [Box::new(fast), Box::new(ReferenceBackend::new())];
    both.map(|mut backend| {
        let executable = backend.compile(&model.program, RowBucket { rows: 80, logit_rows: 2 }).unwrap();
        backend.allocate(executable, KvPlan { pages: PAGES, format: KvFormat::F16 }).unwrap();
        for index in (0..).map(TensorIndex).take(model.program.tensors.len()) {
            backend.upload(executable, index, model.tensor_bytes(index)).unwrap();
        }
        (backend, executable)
    })
}

/// Rows as sequence and position.
fn outcomes(rows: &[(u32, u32)], tables: &[&[u32]], logit_rows: &[u32], token: u32) -> [Result<(), BackendError>; 2] {
    let model = models::load(&TinyModel::new("llama", 1).file()).unwrap();
    let (sequences, positions): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
    let page_tables: Vec<PageTable> = tables.iter().map(|pages| PageTable { pages: pages.to_vec() }).collect();
    let input = PassInput {
        tokens: &vec![token; rows.len()],
        positions: &positions,
        sequences: &sequences,
        page_tables: &page_tables,
        logit_rows,
    };
    let segment = Segment::whole(&model.program);
    backends(&model).map(|(mut backend, executable)| backend.submit(executable, &segment, &input).map(|_| ()))
}

fn assert_refused(what: &str, outcomes: [Result<(), BackendError>; 2]) {
    for outcome in outcomes {
        let refused = matches!(outcome, Err(BackendError::InvalidPass { .. }));
        assert!(refused, "{what}: {outcome:?}");
    }
}

#[test]
fn good_passes_run() {
    for outcome in outcomes(&[(0, 0), (0, 1), (1, 64), (0, 2)], &[&[3], &[0, 1]], &[1, 3], 5) {
        outcome.unwrap();
    }
}

#[test]
fn rows_tokens_and_tables_have_limits() {
    let pages: &[&[u32]] = &[&[0, 1]];
    let many: Vec<(u32, u32)> = (0..81).map(|position| (0, position)).collect();
    assert_refused("81 rows", outcomes(&many, pages, &[], 5));
    assert_refused("three logit rows", outcomes(&many[..4], pages, &[0, 1, 2], 5));
    assert_refused("a logit row past the end", outcomes(&many[..4], pages, &[4], 5));
    assert_refused("an unknown token", outcomes(&many[..4], pages, &[0], 266));
    assert_refused("an unknown sequence", outcomes(&[(1, 0)], pages, &[], 5));
    assert_refused("a position past its pages", outcomes(&[(0, 128)], pages, &[], 5));
}

#[test]
fn every_page_that_a_row_sees_must_exist() {
    let bad = PAGES as u32;
    assert_refused("the first page", outcomes(&[(0, 0)], &[&[bad]], &[], 5));
    assert_refused("an earlier page", outcomes(&[(0, 70)], &[&[bad, 0]], &[], 5));
    // The row that first reaches the bad page is neither the first of its sequence nor the last of the pass.
    let mut rows: Vec<(u32, u32)> = (0..66).map(|position| (0, position)).collect();
    rows.push((1, 0));
    assert_refused("a page in the middle of a pass", outcomes(&rows, &[&[0, bad], &[1]], &[], 5));
    // A page that no row reaches is nobody's business.
    for outcome in outcomes(&rows[..10], &[&[0, bad]], &[], 5) {
        outcome.unwrap();
    }
}

#[test]
fn rows_of_a_sequence_must_come_in_order_on_the_fast_backend() {
    for rows in [[(0, 1), (0, 0)], [(0, 3), (0, 3)]] {
        let [fast, _] = outcomes(&rows, &[&[0]], &[], 5);
        assert!(matches!(fast, Err(BackendError::InvalidPass { .. })), "{rows:?}");
    }
}

#[test]
fn a_page_belongs_to_one_run_of_rows_on_the_fast_backend() {
    let fast = |rows: &[(u32, u32)], tables: &[&[u32]]| {
        let [fast, _] = outcomes(rows, tables, &[0], 1);
        fast
    };
    fast(&[(0, 0), (1, 0)], &[&[0], &[1]]).unwrap();
    for (what, rows, tables) in [
        ("two sequences write one page", &[(0, 0), (1, 1)][..], &[&[0][..], &[0]][..]),
        ("one position comes twice", &[(0, 0), (1, 0), (0, 0)], &[&[0], &[1]]),
        ("a table names a page twice", &[(0, 63), (0, 64)], &[&[0, 0]]),
        ("one reads what the other writes", &[(0, 64), (1, 64)], &[&[0, 1], &[1, 2]]),
    ] {
        assert!(matches!(fast(rows, tables), Err(BackendError::InvalidPass { .. })), "{what}");
    }
}
