//! Parts of messages that the driver has no type for: lengths of compact arrays, and topic ids.

use std::io::{Read, Write};

use rskafka::protocol::messages::WriteVersionedError;
use rskafka::protocol::primitives::UnsignedVarint;
use rskafka::protocol::traits::{ReadError, ReadType, WriteError, WriteType};
use uuid::Uuid;

/// The length of a compact array or of compact bytes. The protocol has one more, and 0 for null.
pub(crate) fn read_length<R: Read>(reader: &mut R) -> Result<u64, ReadError> {
    Ok(UnsignedVarint::read(reader)?.0.saturating_sub(1))
}

pub(crate) fn write_length<W: Write>(writer: &mut W, length: u64) -> Result<(), WriteVersionedError> {
    Ok(UnsignedVarint(length + 1).write(writer)?)
}

pub(crate) fn read_uuid<R: Read>(reader: &mut R) -> Result<Uuid, ReadError> {
    let mut bytes = [0; 16];
    reader.read_exact(&mut bytes)?;
    Ok(Uuid::from_bytes(bytes))
}

pub(crate) fn write_uuid<W: Write>(writer: &mut W, id: Uuid) -> Result<(), WriteVersionedError> {
    writer
        .write_all(id.as_bytes())
        .map_err(|err| WriteVersionedError::WriteError(WriteError::IO(err)))
}
