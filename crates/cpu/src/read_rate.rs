//! How fast this machine streams memory: the limit that decoding is held against. Measures, and tunes nothing.

use std::hint::black_box;
use std::time::Instant;

use program::BackendError;

/// The best of so many rounds counts: the others lost time to whatever else runs.
const ROUNDS: usize = 7;
/// Independent sums, so that no addition waits for another.
const SUMS: usize = 32;
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
    let mut parts = (0..threads).map(|_| reserve(words)).collect::<Result<Vec<_>, _>>()?;
    // Each thread touches its part first, so that the pages are near to it.
    on_each(&mut parts, |part| part.resize(words, 1))?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        on_each(&mut parts, |part| {
            black_box(sum(black_box(part)));
        })?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok((threads * words * size_of::<u64>()) as f64 / best / 1e9)
}

fn reserve(words: usize) -> Result<Vec<u64>, BackendError> {
    let mut part = Vec::new();
    part.try_reserve_exact(words).map_err(|_| BackendError::OutOfMemory {
        backend: "cpu",
        what: "the read measurement".to_owned(),
        bytes: (words * size_of::<u64>()) as u64,
    })?;
    Ok(part)
}

/// Runs `job` for every part, the last on this thread.
fn on_each(parts: &mut [Vec<u64>], job: impl Fn(&mut Vec<u64>) + Sync) -> Result<(), BackendError> {
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

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; SUMS];
    let chunks = words.chunks_exact(SUMS);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
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
