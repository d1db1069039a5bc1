//! The labels of metrics.

use prometheus_client::encoding::EncodeLabelSet;

/// Which kind of row is stored at an offset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// One of [`KINDS`](super::batch_stats::KINDS).
    pub kind: &'static str,
}

/// A partition that this process owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabel {
    pub partition: i32,
}
