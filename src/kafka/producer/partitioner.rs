//! The partition of a key: the choice that every Kafka client makes, so that all of them agree.

use crate::topic_partition::Partition;

/// The partition of a key among `count` partitions, as Java's `BuiltInPartitioner.partitionForKey`
/// chooses it: murmur2 of the key, made positive by dropping its sign bit, modulo the count.
pub fn partition_for(key: &[u8], count: i32) -> Partition {
    let positive = (murmur2(key) & 0x7fff_ffff) as i32;
    Partition::new(positive % count.max(1))
}

/// MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;
    const SHIFT: u32 = 24;

    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(MIX);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MIX) ^ k.wrapping_mul(MIX);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own test of `Utils.murmur2`.
    #[test]
    fn hashes_as_java_does() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_partition_is_in_range_and_used() {
        let mut seen = [0; 7];
        for number in 0..7_000 {
            let key = format!("00000000-0000-4000-8000-{number:012}");
            seen[partition_for(key.as_bytes(), 7).index()] += 1;
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(partition_for(b"any", 1), Partition::new(0));
    }
}
