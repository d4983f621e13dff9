//! Weights on their way into the interleaved layout, behind the passes that use them meanwhile.
//!
//! One thread takes matrices in the order of their upload, packs group after group, says how many have landed and gives
//! the source's pages back. It ends when all is done. It changes no result: a pass packs by itself what has not landed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use program::{BackendError, TensorBytes};

use crate::kernels::pack::Packer;
use crate::memory::Shared;

/// Packed between two looks at whether to stop.
const CHUNK_BYTES: usize = 256 << 10;

/// What has not landed yet, and where it is meanwhile.
#[derive(Clone)]
pub(crate) struct Pending {
    /// As the file has them.
    pub(crate) bytes: TensorBytes,
    pub(crate) packer: Packer,
    /// Leading groups that lie in the arena.
    landed: Arc<AtomicUsize>,
}

impl Pending {
    pub(crate) fn new(bytes: TensorBytes, packer: Packer) -> Pending {
        Pending { bytes, packer, landed: Arc::new(AtomicUsize::new(0)) }
    }

    /// How many leading groups have landed; what was written of them can be read from now on.
    pub(crate) fn landed(&self) -> usize {
        self.landed.load(Ordering::Acquire)
    }
}

/// One matrix to pack.
pub(crate) struct Job {
    pub(crate) pending: Pending,
    pub(crate) groups: usize,
    pub(crate) arena: Shared<u8>,
    pub(crate) at: usize,
    /// Nothing else reads the source's bytes.
    pub(crate) release: bool,
}

/// The thread that packs. Dropping it stops it, so it must not outlive the arena.
#[derive(Default)]
pub(crate) struct Landing {
    running: Option<Running>,
}

struct Running {
    /// `None` once no more jobs come.
    jobs: Option<Sender<Job>>,
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Landing {
    /// Has a matrix packed after those that were handed in before.
    pub(crate) fn push(&mut self, job: Job) -> Result<(), BackendError> {
        if self.running.as_ref().is_some_and(|running| running.jobs.is_none()) {
            self.settle()?;
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(start()?),
        };
        let sent = running.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(died()) }
    }

    /// Lets the thread end when it has packed what it was given.
    pub(crate) fn close(&mut self) {
        if let Some(running) = &mut self.running {
            running.jobs = None;
        }
    }

    /// Waits until everything has landed.
    pub(crate) fn settle(&mut self) -> Result<(), BackendError> {
        self.close();
        self.running.take().map_or(Ok(()), |running| running.thread.join().map_err(|_| died()))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop.store(true, Ordering::Relaxed);
        }
        // A thread that died has nothing left to tell: what it did not pack, passes did.
        let _ = self.settle();
    }
}

fn died() -> BackendError {
    BackendError::Worker { reason: "the thread that repacks weights has died".to_owned() }
}

fn start() -> Result<Running, BackendError> {
    let (jobs, queue) = channel();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("metallic-pack".to_owned())
        .spawn(move || land(&queue, &seen))
        .map_err(|error| BackendError::Worker { reason: error.to_string() })?;
    Ok(Running { jobs: Some(jobs), thread, stop })
}

fn land(queue: &Receiver<Job>, stop: &AtomicBool) {
    for job in queue {
        let chunk = (CHUNK_BYTES / job.pending.packer.group_bytes()).max(1);
        for first in (0..job.groups).step_by(chunk) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let groups = first..job.groups.min(first + chunk);
            // SAFETY: passes read groups that have landed, and these have not; the executable drops this thread's owner
            // before the arena.
            unsafe { pack_into(&job.pending.packer, &job.pending.bytes, groups.clone(), job.arena, job.at) };
            job.pending.landed.store(groups.end, Ordering::Release);
        }
        if job.release {
            job.pending.bytes.release();
        }
    }
}

/// Packs groups of the matrix that starts at byte `at` of the arena.
///
/// # Safety
/// The arena is alive, and no other thread reads or writes these groups meanwhile.
pub(super) unsafe fn pack_into(packer: &Packer, matrix: &[u8], groups: Range<usize>, arena: Shared<u8>, at: usize) {
    let group_bytes = packer.group_bytes();
    // SAFETY: the caller's promise.
    let out = unsafe { arena.slice_mut(at + groups.start * group_bytes, groups.len() * group_bytes) };
    packer.pack(matrix, groups, out);
}
