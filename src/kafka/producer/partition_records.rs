//! Groups the records of one call by partition, each group small enough for a batch.

use super::accumulator::BATCH_BYTES_MAX;
use super::partitioner::partition_for;
use crate::kafka::protocol::produce::ProducerRecord;
use crate::topic_partition::Partition;

/// What a record costs besides its key and value: 32 bytes in Kafka's format, about 100 more in memory.
const RECORD_OVERHEAD_BYTES: usize = 128;

pub(super) struct PartitionRecords {
    pub partition: Partition,
    /// Of the records, among those of the call.
    pub indexes: Vec<usize>,
    pub records: Vec<ProducerRecord>,
    pub cost_bytes: usize,
}

impl PartitionRecords {
    fn new(partition: Partition) -> PartitionRecords {
        PartitionRecords {
            partition,
            indexes: Vec::new(),
            records: Vec::new(),
            cost_bytes: 0,
        }
    }
}

/// Memory of a record while it waits, and at least its bytes in a request.
pub(super) fn cost_bytes(record: &ProducerRecord) -> usize {
    record.key.len() + record.value.len() + RECORD_OVERHEAD_BYTES
}

/// Keeps the order of the records within a partition. A group costs [`BATCH_BYTES_MAX`] at most, or has one record.
pub(super) fn group_by_partition(records: Vec<ProducerRecord>, partitions: usize) -> Vec<PartitionRecords> {
    // Most calls have one event.
    if let [only] = &records[..] {
        return vec![PartitionRecords {
            partition: partition_for(only.key.as_bytes(), partitions as i32),
            indexes: vec![0],
            cost_bytes: cost_bytes(only),
            records,
        }];
    }
    let mut full = Vec::new();
    let mut open: Vec<_> = Partition::range(0..partitions as i32)
        .map(PartitionRecords::new)
        .collect();
    for (index, record) in records.into_iter().enumerate() {
        let partition = partition_for(record.key.as_bytes(), partitions as i32);
        let group = &mut open[partition.index()];
        let cost = cost_bytes(&record);
        if group.cost_bytes + cost > BATCH_BYTES_MAX && !group.records.is_empty() {
            full.push(std::mem::replace(group, PartitionRecords::new(partition)));
        }
        group.cost_bytes += cost;
        group.indexes.push(index);
        group.records.push(record);
    }
    full.extend(open.into_iter().filter(|group| !group.records.is_empty()));
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new_record(number: usize, bytes: usize) -> ProducerRecord {
        ProducerRecord {
            key: format!("00000000-0000-4000-8000-{number:012}"),
            value: "v".repeat(bytes),
        }
    }

    #[test]
    fn groups_keep_every_record_once_in_its_partition_and_in_order() {
        for count in [1, 2, 1_000] {
            let records = (0..count).map(|number| new_record(number, 10)).collect();
            let mut seen = Vec::new();
            for group in group_by_partition(records, 5) {
                assert!(group.indexes.is_sorted());
                assert_eq!(group.cost_bytes, group.records.iter().map(cost_bytes).sum::<usize>());
                assert_eq!(group.indexes.len(), group.records.len());
                for (index, record) in group.indexes.iter().zip(&group.records) {
                    assert_eq!(partition_for(record.key.as_bytes(), 5), group.partition);
                    assert_eq!(record.key, new_record(*index, 0).key);
                }
                seen.extend(group.indexes);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn groups_fit_one_request_unless_one_record_is_larger() {
        let mut records: Vec<_> = (0..40).map(|number| new_record(number, 100_000)).collect();
        records.push(new_record(40, 2_000_000));
        let mut count = 0;
        for group in group_by_partition(records, 2) {
            let bytes: usize = group.records.iter().map(cost_bytes).sum();
            assert_eq!(bytes, group.cost_bytes);
            assert!(bytes <= BATCH_BYTES_MAX || group.records.len() == 1, "{bytes}");
            count += group.records.len();
        }
        assert_eq!(count, 41);
    }
}
