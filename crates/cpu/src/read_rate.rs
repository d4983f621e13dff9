//! How fast this machine streams memory: the limit that decoding is held against. Measures, and tunes nothing.

use std::hint::black_box;
use std::time::Instant;

use program::BackendError;

use crate::memory::{Region, Use};

/// The best of so many rounds counts: the others lost time to whatever else runs.
const ROUNDS: usize = 7;
/// Independent sums, so that no addition waits for another: as many as registers hold on every processor.
const SUMS: usize = 16;
/// Smaller parts would stay in a core's caches.
const WORDS_PER_THREAD_MIN: usize = 1 << 20;

/// Reads `bytes` of memory with `threads` threads, each its own part, and returns the best rate in 10⁹ bytes a second.
///
/// `bytes` should be several times the size of the last cache.
///
/// # Errors
/// [`BackendError::OutOfMemory`] where the system refuses the buffer, [`BackendError::Worker`] where it refuses a
/// thread.
pub fn measure_read_gb_s(threads: usize, bytes: usize) -> Result<f64, BackendError> {
    let threads = threads.max(1);
    let words = (bytes / size_of::<u64>()).div_ceil(threads).max(WORDS_PER_THREAD_MIN);
    let region = || Region::new(words * size_of::<u64>(), Use::Dense, "the read measurement");
    let mut parts = (0..threads).map(|_| region()).collect::<Result<Vec<_>, _>>()?;
    // Each thread touches its part first, so that the pages are near to it.
    on_each(&mut parts, |part| part.elements_mut::<u64>().fill(1))?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        on_each(&mut parts, |part| {
            black_box(sum(black_box(part.elements_mut::<u64>())));
        })?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok((threads * words * size_of::<u64>()) as f64 / best / 1e9)
}

/// Runs `job` for every part, the last on this thread.
fn on_each(parts: &mut [Region], job: impl Fn(&mut Region) + Sync) -> Result<(), BackendError> {
    let Some((own, others)) = parts.split_last_mut() else {
        return Ok(());
    };
    std::thread::scope(|scope| {
        for part in others {
            let builder = std::thread::Builder::new().name("metallic-read".to_owned());
            let spawned = builder.spawn_scoped(scope, || job(part));
            spawned.map_err(|error| BackendError::Worker { reason: error.to_string() })?;
        }
        job(own);
        Ok(())
    })
}

/// By index: adapters of iterators are calls where nothing is optimised at link time, and then they are what is measured.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; SUMS];
    let (chunks, rest) = words.as_chunks::<SUMS>();
    for chunk in chunks {
        for lane in 0..SUMS {
            sums[lane] = sums[lane].wrapping_add(chunk[lane]);
        }
    }
    sums.iter().chain(rest).fold(0, |total, word| total.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..1000).collect();
        for len in [0, 1, SUMS - 1, SUMS, SUMS + 1, 1000] {
            assert_eq!(sum(&words[..len]), (0..len as u64).sum::<u64>());
        }
    }

    #[test]
    fn a_rate_is_measured_with_any_number_of_threads() {
        for threads in [0, 1, 3] {
            let rate = measure_read_gb_s(threads, 1 << 20).unwrap();
            assert!(rate.is_finite() && rate > 0.01, "{rate} GB/s with {threads} threads");
        }
    }
}
