//! What all workers of a process share, so that its memory has a bound whatever the number of partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::batch::ROWS_MAX;

/// About the memory for rows that all partitions of a process have fetched and not stored, up to 64 partitions.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// The least and the most of it for one partition, which with [`ROWS_MAX`] bounds a batch: not so much that one insert
/// takes long, not so little that inserts become many. An event takes 80 bytes, a bad record its length.
const PENDING_BYTES_LEAST: usize = 1 << 20;
const PENDING_BYTES_MOST: usize = 16 << 20;

/// Bytes that one fetch asks for at most. The records of a fetch take several times that until they are parsed.
const FETCH_BYTES_MAX: usize = 2 << 20;

/// Rows that one process makes and inserts at once: two full batches, or very many small ones. ClickHouse writes them
/// no faster when there are more.
const ROWS_IN_FLIGHT_MAX: usize = 2 * ROWS_MAX;

/// The limits of one process. Clones share them.
#[derive(Clone)]
pub struct Limits {
    workers: Arc<AtomicUsize>,
    rows_in_flight: Arc<Semaphore>,
}

impl Limits {
    /// For a process that has no workers yet.
    pub fn new() -> Limits {
        Limits {
            workers: Arc::default(),
            rows_in_flight: Arc::new(Semaphore::new(ROWS_IN_FLIGHT_MAX)),
        }
    }

    /// Counts one more worker that shares the memory.
    pub fn add_worker(&self) {
        self.workers.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of rows that one partition may have fetched and not stored.
    pub fn pending_bytes(&self) -> usize {
        let workers = self.workers.load(Ordering::Relaxed).max(1);
        (PENDING_BYTES_MAX / workers).clamp(PENDING_BYTES_LEAST, PENDING_BYTES_MOST)
    }

    /// Bytes that one fetch may ask for.
    pub fn fetch_bytes(&self) -> i32 {
        self.pending_bytes().min(FETCH_BYTES_MAX) as i32
    }

    /// Waits until this many rows may be made and inserted; they may as long as the permit lives.
    pub async fn acquire_rows(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = count.clamp(1, ROWS_MAX) as u32;
        let rows_in_flight = Arc::clone(&self.rows_in_flight);
        // The semaphore is never closed, so there is always a permit in the end.
        rows_in_flight.acquire_many_owned(count).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_divide_the_memory() {
        let limits = Limits::new();
        assert_eq!(limits.pending_bytes(), PENDING_BYTES_MOST);
        for workers in 1..=300 {
            limits.add_worker();
            let all = limits.pending_bytes() * workers;
            assert!(workers > 64 || all <= PENDING_BYTES_MAX, "{workers}: {all}");
            assert!(limits.pending_bytes() >= PENDING_BYTES_LEAST);
            assert!(limits.fetch_bytes() as usize <= limits.pending_bytes());
        }
    }
}
