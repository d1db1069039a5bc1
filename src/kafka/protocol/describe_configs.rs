//! DescribeConfigs, which the driver has no type for.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use rskafka::protocol::api_key::ApiKey;
use rskafka::protocol::api_version::{ApiVersion, ApiVersionRange};
use rskafka::protocol::error::Error as ProtocolError;
use rskafka::protocol::messages::{
    ReadVersionedError, ReadVersionedType, RequestBody, WriteVersionedError, WriteVersionedType,
};
use rskafka::protocol::primitives::{Array, Boolean, Int8, Int16, Int32, NullableString, String_};
use rskafka::protocol::traits::{ReadType, WriteType};

/// DescribeConfigs, version 1, for all keys of one topic (<https://kafka.apache.org/protocol>).
pub struct DescribeConfigsRequest(pub String);

pub struct DescribeConfigsResponse {
    /// Why there is no configuration.
    pub error: Option<ProtocolError>,
    /// All keys, defaults included.
    pub config: BTreeMap<String, String>,
}

/// The resource type "topic".
const RESOURCE_TOPIC: i8 = 2;

impl RequestBody for DescribeConfigsRequest {
    type ResponseBody = DescribeConfigsResponse;
    const API_KEY: ApiKey = ApiKey::DescribeConfigs;
    const API_VERSION_RANGE: ApiVersionRange = ApiVersionRange::new(ApiVersion(Int16(1)), ApiVersion(Int16(1)));
    const FIRST_TAGGED_FIELD_IN_REQUEST_VERSION: ApiVersion = ApiVersion(Int16(4));
}

impl<W: Write> WriteVersionedType<W> for DescribeConfigsRequest {
    fn write_versioned(&self, writer: &mut W, _: ApiVersion) -> Result<(), WriteVersionedError> {
        Int32(1).write(writer)?;
        Int8(RESOURCE_TOPIC).write(writer)?;
        String_(self.0.clone()).write(writer)?;
        Array::<String_>(None).write(writer)?;
        Boolean(false).write(writer)?;
        Ok(())
    }
}

impl<R: Read> ReadVersionedType<R> for DescribeConfigsResponse {
    fn read_versioned(reader: &mut R, _: ApiVersion) -> Result<Self, ReadVersionedError> {
        let mut response = DescribeConfigsResponse {
            error: None,
            config: BTreeMap::new(),
        };
        Int32::read(reader)?; // throttle time
        for _ in 0..Int32::read(reader)?.0 {
            response.error = ProtocolError::new(Int16::read(reader)?.0);
            NullableString::read(reader)?; // the error in words
            Int8::read(reader)?; // resource type
            String_::read(reader)?; // resource name
            for _ in 0..Int32::read(reader)?.0 {
                let name = String_::read(reader)?.0;
                let value = NullableString::read(reader)?.0;
                Boolean::read(reader)?; // read only
                Int8::read(reader)?; // source
                Boolean::read(reader)?; // sensitive
                for _ in 0..Int32::read(reader)?.0 {
                    String_::read(reader)?;
                    NullableString::read(reader)?;
                    Int8::read(reader)?;
                }
                response.config.insert(name, value.unwrap_or_default());
            }
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_configuration_is_read() {
        let mut bytes = Vec::new();
        for part in [
            &b"\0\0\0\0\0\0\0\x01\0\0\xff\xff\x02\0\x01t\0\0\0\x02"[..],
            b"\0\x01a\0\x011\0\x05\0\0\0\0\0",
            b"\0\x01b\xff\xff\0\x05\0\0\0\0\x01\0\x01s\0\x012\x05",
        ] {
            bytes.extend_from_slice(part);
        }
        let response = DescribeConfigsResponse::read_versioned(&mut Cursor::new(bytes), ApiVersion(Int16(1))).unwrap();
        assert_eq!(response.error, None);
        let config: Vec<_> = response.config.into_iter().collect();
        assert_eq!(
            config,
            [("a".to_string(), "1".to_string()), ("b".to_string(), String::new())]
        );
    }
}
