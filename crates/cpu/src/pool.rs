//! Worker threads that run one function together.
//!
//! A pass is one call of [`Pool::run`]. Threads share its work out among themselves; one that comes late, because its
//! core was taken by another process, is not waited for unless it has begun. Waiting threads spin briefly, then yield
//! their core; between passes they sleep.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
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
    /// Counts jobs; a worker that sees a new number may run the job.
    generation: AtomicU64,
    /// The job, while workers may still begin it, and how many have.
    job: Mutex<(JobSlot, usize)>,
    /// Workers that have ended the job.
    ended: AtomicUsize,
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
            job: Mutex::new((JobSlot(None), 0)),
            ended: AtomicUsize::new(0),
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
        state.ended.store(0, Ordering::Relaxed);
        *state.lock() = (JobSlot(Some(job_static)), 0);
        state.generation.fetch_add(1, Ordering::Release);
        for (thread, _) in &self.workers {
            thread.unpark();
        }
        run_job(state, job, 0);
        // From here on no worker begins the job; those that have are waited for.
        let begun = std::mem::replace(&mut *state.lock(), (JobSlot(None), 0)).1;
        wait_until(|| state.ended.load(Ordering::Acquire) == begun);
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

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, (JobSlot, usize)> {
        self.job.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Worker<'_> {
    /// Waits for what other threads of the job do.
    ///
    /// # Panics
    /// If another thread of the job panicked, which would otherwise never do it.
    pub(crate) fn wait_until(&self, done: impl Fn() -> bool) {
        wait_until(|| {
            let done = done();
            assert!(done || !self.state.panicked.load(Ordering::Relaxed), "another worker thread panicked");
            done
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
        let job = {
            let mut slot = state.lock();
            slot.1 += usize::from(slot.0.0.is_some());
            slot.0.0
        };
        if let Some(job) = job {
            // SAFETY: `run` keeps the job alive until every worker that has begun it has ended it.
            run_job(state, unsafe { &*job }, index);
            state.ended.fetch_add(1, Ordering::Release);
        }
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
    fn waiting_for_work_sees_what_others_did() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..200 {
            let (claimed, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let sums: Vec<AtomicUsize> = (0..64).map(|_| AtomicUsize::new(0)).collect();
            pool.run(&|worker| {
                while let index @ 0..64 = claimed.fetch_add(1, Ordering::Relaxed) {
                    sums[index].store(index + 1, Ordering::Relaxed);
                    finished.fetch_add(1, Ordering::Release);
                }
                worker.wait_until(|| finished.load(Ordering::Acquire) == 64);
                let sum: usize = sums.iter().map(|s| s.load(Ordering::Relaxed)).sum();
                assert_eq!(sum, 64 * 65 / 2);
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2).unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let began = AtomicBool::new(false);
            pool.run(&|worker| {
                if worker.index == 1 {
                    began.store(true, Ordering::Relaxed);
                    panic!("on purpose");
                }
                worker.wait_until(|| began.load(Ordering::Relaxed));
                worker.wait_until(|| false);
            });
        }));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(&|worker| {
            count.fetch_add(1, Ordering::Relaxed);
            worker.wait_until(|| count.load(Ordering::Relaxed) == 2);
        });
    }
}
