//! Record batches of format version 2, made by hand, with anything in them.

/// A signed number as Kafka's records have it: zigzag, then seven bits to a byte, the lowest first.
pub fn varint(number: i64) -> Vec<u8> {
    let mut number = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Bytes after their length; `None` is null.
pub fn field(bytes: Option<&[u8]>) -> Vec<u8> {
    match bytes {
        Some(bytes) => [&varint(bytes.len() as i64)[..], bytes].concat(),
        None => varint(-1),
    }
}

/// A record of the parts after its attributes: timestamp delta, offset delta, key, value, headers.
pub fn record(parts: &[&[u8]]) -> Vec<u8> {
    field(Some(&[&[0], &parts.concat()[..]].concat()))
}

/// The fields before the records; no producer id.
pub struct Header {
    /// Offset of the batch; a broker writes its own.
    pub base_offset: i64,
    /// Codec and flags.
    pub attributes: i16,
    /// From the base offset to the last one of the batch.
    pub last_offset_delta: i32,
    /// Timestamp from which the records count theirs.
    pub base_timestamp_millis: i64,
    /// The latest timestamp.
    pub max_timestamp_millis: i64,
    /// Records, as the header claims.
    pub records_count: i32,
}

impl Header {
    /// The batch of these records, compressed already if the attributes say so, with the checksum that fits.
    pub fn batch(&self, records: &[u8]) -> Vec<u8> {
        let mut body = self.attributes.to_be_bytes().to_vec();
        body.extend(self.last_offset_delta.to_be_bytes());
        body.extend(self.base_timestamp_millis.to_be_bytes());
        body.extend(self.max_timestamp_millis.to_be_bytes());
        body.extend([0xff; 14]); // producer id, its epoch, base sequence
        body.extend(self.records_count.to_be_bytes());
        body.extend(records);
        let mut batch = self.base_offset.to_be_bytes().to_vec();
        batch.extend((body.len() as i32 + 9).to_be_bytes());
        batch.extend([0xff; 4]); // partition leader epoch
        batch.push(2);
        batch.extend(crc32c::crc32c(&body).to_be_bytes());
        batch.extend(body);
        batch
    }
}
