//! Accepting events: from bytes to receipts, whatever way they came.

use chrono::Utc;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::auth::Caller;
use super::auth::keys::RateState;
use super::problem::Problem;
use super::rejection::Refused;
use super::request::body::{Bodies, Body};
use super::request::content_type::Form;
use super::retry_after::Outage;
use crate::event::Event;
use crate::kafka::{Producer, ProducerRecord, Receipt, SendError, TopicName};
use crate::resource_pool::Share;

/// Takes events.
pub struct Acceptor {
    topic: TopicName,
    producer: Producer,
    bodies: Bodies,
    /// Events that Kafka confirmed.
    confirmed: Counter,
    outage: Outage,
}

/// What a sender gets.
#[derive(Debug, Serialize)]
pub struct Accepted<'a> {
    status: &'static str,
    topic: &'a str,
    message: &'static str,
    accepted: usize,
    /// Events that would have been accepted, of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<usize>,
    receipts: Vec<String>,
    /// Memory for this answer.
    #[serde(skip)]
    pub share: Share,
}

/// Bytes of the longest receipt in an answer: two numbers, a colon, quotes and a comma.
const RECEIPT_BYTES_MAX: usize = 34;

impl Acceptor {
    /// Takes events for one topic, and counts those that Kafka confirmed.
    pub fn new(topic: TopicName, producer: Producer, bodies: Bodies, confirmed: Counter) -> Acceptor {
        Acceptor {
            topic,
            producer,
            bodies,
            confirmed,
            outage: Outage::none(),
        }
    }

    /// Reads bodies within their limits.
    pub fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Accepts the events of a body, all or none: with receipts once Kafka has them, and what is left of the caller's
    /// rate. A dry run only says whether they would be, and takes nothing of the rate. Nothing is sent unless its answer, of
    /// so many bytes, `may_be_sent` too.
    ///
    /// # Errors
    /// Why nothing is promised.
    pub async fn accept(
        &self,
        body: Body,
        form: Form,
        caller: &Caller,
        dry_run: bool,
        may_be_sent: impl FnOnce(usize) -> bool,
    ) -> Result<(Accepted<'_>, Option<RateState>), Refused> {
        let checked = caller.clone();
        let records = self.bodies.events(body, form, move |events, is_array| {
            let checked = checked.check(&events, is_array);
            checked.map_err(|problem| Refused::all(events.len(), problem))?;
            Ok(records(&events))
        });
        let (records, mut share) = records.await?;
        let count = records.len();
        // The events wait for Kafka elsewhere; what is held of the body's share is for the answer.
        share.shrink_to(count * RECEIPT_BYTES_MAX);
        let refuse = |problem| Refused::all(count, problem);
        if dry_run {
            caller.check_burst(count).map_err(refuse)?;
            return Ok((self.valid(count, share), None));
        }
        if !may_be_sent(count * RECEIPT_BYTES_MAX) {
            return Err(refuse(Problem::MemoryFull));
        }
        let rate = caller.take(count).map_err(refuse)?;
        let sent = self.producer.send(records, Utc::now()).await;
        match &sent {
            Ok(_) => self.outage.note(true),
            Err(SendError::Unconfirmed(_)) => self.outage.note(false),
            Err(SendError::Overloaded) => None,
        };
        let receipts = sent.map_err(|err| match err {
            SendError::Overloaded => refuse(Problem::KafkaFull),
            SendError::Unconfirmed(_) => refuse(Problem::Unconfirmed(self.outage.retry_after())),
        })?;
        self.confirmed.inc_by(receipts.len() as u64);
        let accepted = Accepted {
            status: "accepted",
            topic: self.topic.as_str(),
            message: "every event is on all in-sync replicas and will be counted once",
            accepted: receipts.len(),
            valid: None,
            receipts: receipts.iter().map(receipt).collect(),
            share,
        };
        Ok((accepted, rate))
    }

    fn valid(&self, count: usize, share: Share) -> Accepted<'_> {
        Accepted {
            status: "valid",
            topic: self.topic.as_str(),
            message: "a dry run: every event would be accepted, none was",
            accepted: 0,
            valid: Some(count),
            receipts: Vec::new(),
            share,
        }
    }
}

/// What Kafka gets of events.
fn records(events: &[Event]) -> Vec<ProducerRecord> {
    let outgoing = |event: &Event| ProducerRecord {
        key: event.key(),
        value: event.to_json(),
    };
    events.iter().map(outgoing).collect()
}

fn receipt(receipt: &Receipt) -> String {
    format!("{}:{}", receipt.partition, receipt.offset)
}
