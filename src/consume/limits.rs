//! What all workers of a process share, so that its memory has a bound whatever the number of partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::batch::ROWS_MAX;

/// About the memory for what all partitions of a process hold and have not stored, up to 64 of them.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// And for that of one partition, which with [`ROWS_MAX`] bounds a batch: not so much that one insert
/// takes long, not so little that inserts become many. An event takes 80 bytes, a bad record its length.
const PENDING_BYTES_LEAST: usize = 1 << 20;
const PENDING_BYTES_MOST: usize = 16 << 20;

/// Bytes that one fetch asks for at most. The records of a fetch take several times that until they are read.
const FETCH_BYTES_MAX: usize = 2 << 20;

/// Rows that are made and inserted at once in one process: two full batches, or very many small ones.
/// ClickHouse writes them no faster when there are more.
const ROWS_AT_ONCE_MAX: usize = 2 * ROWS_MAX;

/// Clones share it.
#[derive(Clone)]
pub struct Bounds {
    workers: Arc<AtomicUsize>,
    rows_at_once: Arc<Semaphore>,
}

impl Bounds {
    /// For a process that has no workers yet.
    pub fn new() -> Bounds {
        Bounds {
            workers: Arc::default(),
            rows_at_once: Arc::new(Semaphore::new(ROWS_AT_ONCE_MAX)),
        }
    }

    /// One more worker is to have its part.
    pub fn add_worker(&self) {
        self.workers.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes that one partition may hold of what it has not stored.
    pub fn pending_bytes(&self) -> usize {
        let workers = self.workers.load(Ordering::Relaxed).max(1);
        (PENDING_BYTES_MAX / workers).clamp(PENDING_BYTES_LEAST, PENDING_BYTES_MOST)
    }

    /// Bytes that one fetch may ask for.
    pub fn fetch_bytes(&self) -> i32 {
        self.pending_bytes().min(FETCH_BYTES_MAX) as i32
    }

    /// Waits until so many rows may be made and inserted; they may as long as the permit lives.
    pub async fn rows(&self, count: usize) -> Option<OwnedSemaphorePermit> {
        let count = count.clamp(1, ROWS_MAX) as u32;
        let rows_at_once = Arc::clone(&self.rows_at_once);
        // Nobody closes it, so there is always a permit in the end.
        rows_at_once.acquire_many_owned(count).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_divide_the_memory() {
        let bounds = Bounds::new();
        assert_eq!(bounds.pending_bytes(), PENDING_BYTES_MOST);
        for workers in 1..=300 {
            bounds.add_worker();
            let all = bounds.pending_bytes() * workers;
            assert!(workers > 64 || all <= PENDING_BYTES_MAX, "{workers}: {all}");
            assert!(bounds.pending_bytes() >= PENDING_BYTES_LEAST);
            assert!(bounds.fetch_bytes() as usize <= bounds.pending_bytes());
        }
    }
}
