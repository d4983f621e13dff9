//! After warm-up a decode pass allocates nothing.

use std::sync::Arc;

use metallic_cpu::{CpuBackend, CpuConfig, IsaChoice, Repack};
use program::{
    Backend, Buffer, KvFormat, KvPlan, PAGE_ROWS, PageTable, PassInput, RowBucket, Segment, TensorBytes, TensorIndex,
};
use testkit::TinyModel;

mod counting {
    //! An allocator that counts. The test's only unsafe code.

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub(crate) struct Counting;

    /// Allocations so far, of all threads.
    pub(crate) static CALLS: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: every call goes to the system allocator with the arguments it came with; the counter touches no memory
    // of it.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            CALLS.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the caller's contract is the system allocator's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller's contract is the system allocator's.
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

fn allocations() -> usize {
    counting::CALLS.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn a_decode_pass_allocates_nothing_after_warm_up() {
    let file = TinyModel { context: 4096, ..TinyModel::new("qwen2", 1) }.file();
    let model = models::load(&file).unwrap();
    for threads in [1, 2] {
        let mut backend = CpuBackend::new(CpuConfig { threads, isa: IsaChoice::Best, repack: Repack::Behind }).unwrap();
        let program = Arc::clone(&model.program);
        let executable = backend.compile(&program, RowBucket { rows: 256, logit_rows: 1 }).unwrap();
        backend.allocate(executable, KvPlan { pages: 32, format: KvFormat::F16 }).unwrap();
        for index in (0..).map(TensorIndex).take(program.tensors.len()) {
            let bytes: TensorBytes = model.tensor_bytes(index);
            backend.upload(executable, index, bytes).unwrap();
        }
        backend.settle().unwrap();
        let tables = [PageTable { pages: (0..32).collect() }];
        let segment = Segment::whole(&program);
        let mut logits = vec![0.0; program.sizes.vocabulary];
        let mut counts = Vec::new();
        for position in 0..32 * PAGE_ROWS as u32 {
            let input = PassInput {
                tokens: &[position % 250],
                positions: &[position],
                sequences: &[0],
                page_tables: &tables,
                logit_rows: &[0],
            };
            let before = allocations();
            let fence = backend.submit(executable, &segment, &input).unwrap();
            backend.wait(fence).unwrap();
            backend.read(executable, Buffer::Logits, 0..1, &mut logits).unwrap();
            counts.push(allocations() - before);
        }
        let warm = &counts[16..];
        // A worker thread allocates its own handle when it first sleeps, whenever that is.
        let total: usize = warm.iter().sum();
        assert!(total < threads, "{threads} threads: {total} allocations in {} passes", warm.len());
    }
}
