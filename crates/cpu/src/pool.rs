//! Worker threads that run one function together, with barriers inside.
//!
//! A pass is one call of [`Pool::run`]: every thread walks the same steps and meets the others at a [`Worker::barrier`]
//! after each, a few hundred nanoseconds on a quiet machine. Waiting threads spin briefly, then yield, so that a core
//! taken by another process costs its share and no more; between passes they sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

use program::BackendError;

/// Pauses before a waiting thread yields its core.
const SPINS_BEFORE_YIELD: u32 = 4_000;
/// Yields before an idle worker sleeps.
const YIELDS_BEFORE_SLEEP: u32 = 200;

type Job = *const (dyn Fn(Worker<'_>) + Sync);

/// A job's address, passed through an atomic hand-over.
#[derive(Clone, Copy)]
struct JobSlot(Option<Job>);

// SAFETY: the pointee is Sync, and `run` outlives every use of it.
unsafe impl Send for JobSlot {}

struct State {
    /// Counts jobs; a worker that sees a new number runs the job.
    generation: AtomicU64,
    job: std::sync::Mutex<JobSlot>,
    running: AtomicUsize,
    barrier: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    threads: usize,
}

/// A fixed set of threads; the caller's own is one of them.
pub(crate) struct Pool {
    state: Arc<State>,
    workers: Vec<(Thread, JoinHandle<()>)>,
}

/// A thread's view of a running job.
#[derive(Clone, Copy)]
pub(crate) struct Worker<'p> {
    /// 0 is the calling thread.
    pub(crate) index: usize,
    /// Threads that run the job.
    pub(crate) threads: usize,
    state: &'p State,
}

impl Pool {
    /// A pool of `threads` threads, the caller among them.
    pub(crate) fn new(threads: usize) -> Result<Pool, BackendError> {
        let state = Arc::new(State {
            generation: AtomicU64::new(0),
            job: std::sync::Mutex::new(JobSlot(None)),
            running: AtomicUsize::new(0),
            barrier: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            threads: threads.max(1),
        });
        let mut pool = Pool { state, workers: Vec::new() };
        for index in 1..pool.state.threads {
            let state = Arc::clone(&pool.state);
            let handle = std::thread::Builder::new()
                .name(format!("metallic-{index}"))
                .spawn(move || work(&state, index))
                .map_err(|error| BackendError::Worker { reason: error.to_string() })?;
            pool.workers.push((handle.thread().clone(), handle));
        }
        Ok(pool)
    }

    /// Runs `job` on every thread and returns when all are done.
    ///
    /// # Panics
    /// If the job panicked on any thread.
    pub(crate) fn run(&self, job: &(dyn Fn(Worker<'_>) + Sync)) {
        let state = &*self.state;
        // SAFETY: only the lifetime changes; this function returns after the last use.
        let job_static: Job = unsafe { std::mem::transmute::<*const (dyn Fn(Worker<'_>) + Sync + '_), Job>(job) };
        state.job.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = Some(job_static);
        state.barrier.store(0, Ordering::Relaxed);
        state.running.store(state.threads - 1, Ordering::Relaxed);
        state.generation.fetch_add(1, Ordering::Release);
        for (thread, _) in &self.workers {
            thread.unpark();
        }
        run_job(state, job, 0);
        wait_until(|| state.running.load(Ordering::Acquire) == 0);
        assert!(!state.panicked.swap(false, Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        for (thread, handle) in self.workers.drain(..) {
            thread.unpark();
            // A worker's panic was already reported by `run`.
            let _ = handle.join();
        }
    }
}

impl Worker<'_> {
    /// Waits until every thread of the job is here.
    ///
    /// # Panics
    /// If another thread of the job panicked, which would otherwise never arrive.
    pub(crate) fn barrier(&self) {
        let state = self.state;
        if state.threads == 1 {
            return;
        }
        let arrived = state.barrier.fetch_add(1, Ordering::AcqRel) + 1;
        let target = arrived.next_multiple_of(state.threads);
        wait_until(|| {
            assert!(!state.panicked.load(Ordering::Relaxed), "another worker thread panicked");
            state.barrier.load(Ordering::Acquire) >= target
        });
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0u32;
    while !done() {
        if spins < SPINS_BEFORE_YIELD {
            spins += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

fn work(state: &State, index: usize) {
    let mut seen = 0;
    loop {
        let mut waited = 0u32;
        let next = loop {
            if state.stop.load(Ordering::Acquire) {
                return;
            }
            let next = state.generation.load(Ordering::Acquire);
            if next != seen {
                break next;
            }
            waited += 1;
            if waited < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else if waited < SPINS_BEFORE_YIELD + YIELDS_BEFORE_SLEEP {
                std::thread::yield_now();
            } else {
                std::thread::park();
            }
        };
        seen = next;
        let slot = *state.job.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(job) = slot.0 {
            // SAFETY: `run` keeps the job alive until `running` is zero, which this thread lowers below.
            run_job(state, unsafe { &*job }, index);
        }
        state.running.fetch_sub(1, Ordering::Release);
    }
}

fn run_job(state: &State, job: &(dyn Fn(Worker<'_>) + Sync), index: usize) {
    let worker = Worker { index, threads: state.threads, state };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(worker)));
    if outcome.is_err() {
        state.panicked.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_and_barriers_hold() {
        let pool = Pool::new(3).unwrap();
        let before = AtomicUsize::new(0);
        for round in 1..200 {
            pool.run(&|worker| {
                before.fetch_add(1, Ordering::Relaxed);
                worker.barrier();
                assert_eq!(before.load(Ordering::Relaxed), 3 * round);
                worker.barrier();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(&|worker| {
                assert_ne!(worker.index, 1, "on purpose");
                worker.barrier();
            });
        }));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
