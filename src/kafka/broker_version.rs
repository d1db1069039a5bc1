//! Checks whether a broker is newer than any that was tested.

use rskafka::messenger::Messenger;
use rskafka::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use rskafka::protocol::primitives::{CompactString, Int16, TaggedFields};
use rskafka::protocol::traits::ReadType;

use super::connect::Wire;
use super::protocol::primitives::read_length;
use crate::tested_versions;

/// The tagged field with the supported features, in version 3 of the response to `ApiVersions`.
const SUPPORTED_FEATURES: u64 = 0;

/// Logs once that a broker is newer than any that the tests were run with. The driver sends the same request when it
/// connects, but keeps only the versions of requests.
pub(crate) async fn log_if_newer(address: &str, messenger: &Messenger<Wire>) {
    let request = ApiVersionsRequest {
        client_software_name: Some(CompactString("captcha".to_string())),
        client_software_version: Some(CompactString(env!("CARGO_PKG_VERSION").to_string())),
        tagged_fields: None,
    };
    match messenger.request(request).await {
        Ok(response) => {
            if let Some(version) = metadata_version(&response) {
                tested_versions::log_newer_kafka_once(address, version);
            }
        }
        Err(err) => tracing::debug!(address, %err, "kafka does not say which features it has"),
    }
}

/// The newest `metadata.version` that a broker knows; `None` before Kafka 3.3.
fn metadata_version(response: &ApiVersionsResponse) -> Option<i16> {
    let fields = &response.tagged_fields.as_ref()?.0;
    let (_, features) = fields.iter().find(|(tag, _)| tag.0 == SUPPORTED_FEATURES)?;
    let mut reader = features.as_slice();
    for _ in 0..read_length(&mut reader).ok()? {
        let name = CompactString::read(&mut reader).ok()?.0;
        Int16::read(&mut reader).ok()?; // min version level
        let newest = Int16::read(&mut reader).ok()?.0;
        TaggedFields::read(&mut reader).ok()?;
        if name == "metadata.version" {
            return Some(newest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::protocol::primitives::UnsignedVarint;

    fn response(features: &[u8]) -> ApiVersionsResponse {
        let fields = vec![(UnsignedVarint(SUPPORTED_FEATURES), features.to_vec())];
        ApiVersionsResponse {
            error_code: None,
            api_keys: Vec::new(),
            throttle_time_ms: None,
            tagged_fields: Some(TaggedFields(fields)),
        }
    }

    #[test]
    fn the_metadata_version_is_read() {
        let other = b"\x0egroup.version\0\0\0\x01\0";
        let ours = b"\x11metadata.version\0\x07\0\x21\0";
        let both = [&b"\x03"[..], other, ours].concat();
        assert_eq!(metadata_version(&response(&both)), Some(33));
        assert_eq!(metadata_version(&response(&both[..30])), None);
        assert_eq!(metadata_version(&response(&[&b"\x02"[..], other].concat())), None);
        assert_eq!(metadata_version(&response(b"")), None);
    }
}
