//! Ingesting events: from the request to the receipts of Kafka.

use std::sync::Arc;

use chrono::Utc;
use hyper::{Request, StatusCode};
use serde::Serialize;

use super::auth::keys::{RateState, Role};
use super::auth::{Auth, Caller};
use super::client::Client;
use super::metrics::Metrics;
use super::problem::Problem;
use super::request::body::{Body, BodyReader, ParsedBody};
use super::request::content_type::BodyFormat;
use super::request::deadline::Deadline;
use super::request::query::{parse_dry_run, query};
use super::request::unread_body::UnreadBody;
use crate::http::{self, Response};
use crate::kafka::{Producer, ProducerRecord, Receipt, SendError, TopicName};
use crate::resource_pool::{Holder, Pool, Share};

/// Bytes of the longest receipt in a response: two numbers, a colon, quotes and a comma.
const RECEIPT_BYTES_MAX: usize = 34;

/// Ingests the events of requests and of messages.
pub struct Ingest {
    pub auth: Arc<Auth>,
    pub bodies: BodyReader,
    /// Requests and messages that came whole and are not answered.
    pub requests: Arc<Pool>,
    pub topic: TopicName,
    pub producer: Producer,
    pub metrics: Metrics,
}

/// The response to events that were accepted.
#[derive(Debug, Serialize)]
pub struct Accepted {
    status: &'static str,
    topic: String,
    message: &'static str,
    accepted: usize,
    /// Events of a dry run that would have been accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<usize>,
    receipts: Vec<String>,
    /// The memory of the response.
    #[serde(skip)]
    pub share: Share,
}

impl Ingest {
    /// Ingests the events of a request, all or none. Sets `parsed` to their number once it is known.
    ///
    /// # Errors
    /// No event is promised to be counted.
    pub async fn post_events(
        &self,
        request: &Request<()>,
        (unread, deadline): (&mut UnreadBody, &Deadline),
        client: &Client,
        parsed: &mut Option<usize>,
    ) -> Result<Response, Problem> {
        let caller = self.auth.authenticate(Role::Write, request.headers(), &client.peer)?;
        let dry_run = parse_dry_run(query(request))?;
        let format = BodyFormat::from_headers(request.headers())?;
        let body = self.bodies.read(unread, deadline, client).await?;
        let _in_progress = self.acquire_request(client.holder)?;
        let body = self.bodies.parse(body, format).await?;
        *parsed = Some(body.events.len());
        caller.authorize(&body.events, body.is_array)?;
        let can_respond = |bytes| client.peer.acquire_send_buffer(Some(bytes), client.holder);
        let (accepted, rate) = self.produce(body, &caller, dry_run, can_respond).await?;
        Ok(respond(accepted, rate))
    }

    /// Ingests the events of a message as [`Ingest::post_events`] those of a request.
    ///
    /// # Errors
    /// No event is promised to be counted.
    pub async fn ingest_message(
        &self,
        message: Result<Body, Problem>,
        (opened_by, holder): (&Caller, Holder),
        dry_run: bool,
        can_respond: impl FnOnce(usize) -> bool,
        parsed: &mut Option<usize>,
    ) -> Result<Accepted, Problem> {
        let _in_progress = self.acquire_request(holder)?;
        let caller = self.auth.renew(opened_by)?;
        let body = self.bodies.parse(message?, BodyFormat::MESSAGE).await?;
        *parsed = Some(body.events.len());
        caller.authorize(&body.events, body.is_array)?;
        let (accepted, _) = self.produce(body, &caller, dry_run, can_respond).await?;
        Ok(accepted)
    }

    /// Counts a request as in progress until the result is dropped.
    ///
    /// # Errors
    /// [`Problem::RequestsFull`].
    pub fn acquire_request(&self, holder: Holder) -> Result<Share, Problem> {
        self.requests.acquire(holder, 1).ok_or(Problem::RequestsFull)
    }

    /// Produces the events to Kafka; a dry run only checks whether they could be. Nothing is sent that cannot be
    /// answered: `can_respond` acquires memory for this many bytes of a response.
    async fn produce(
        &self,
        body: ParsedBody,
        caller: &Caller,
        dry_run: bool,
        can_respond: impl FnOnce(usize) -> bool,
    ) -> Result<(Accepted, Option<RateState>), Problem> {
        let ParsedBody {
            events,
            records,
            mut share,
            ..
        } = body;
        drop(events);
        let count = records.len();
        // The records wait for Kafka in memory of their own; the rest of the body's share is for the response.
        share.shrink_to(count * RECEIPT_BYTES_MAX);
        if dry_run {
            caller.check_burst(count)?;
            return Ok((self.valid(count, share), None));
        }
        if !can_respond(count * RECEIPT_BYTES_MAX) {
            return Err(Problem::MemoryFull);
        }
        let rate = caller.spend(count)?;
        let receipts = self.send(records).await?;
        Ok((self.accepted(&receipts, share), rate))
    }

    /// Sends records to Kafka, and returns once all in-sync replicas have them.
    async fn send(&self, records: Vec<ProducerRecord>) -> Result<Vec<Receipt>, Problem> {
        let receipts = self.producer.send(records, Utc::now()).await;
        let receipts = receipts.map_err(|error| match error {
            SendError::Overloaded => Problem::KafkaFull,
            SendError::Unconfirmed(_) => Problem::Unconfirmed,
        })?;
        self.metrics.events_accepted.inc_by(receipts.len() as u64);
        Ok(receipts)
    }

    fn accepted(&self, receipts: &[Receipt], share: Share) -> Accepted {
        let receipt = |receipt: &Receipt| format!("{}:{}", receipt.partition, receipt.offset);
        Accepted {
            status: "accepted",
            topic: self.topic.to_string(),
            message: "every event is on all in-sync replicas and will be counted once",
            accepted: receipts.len(),
            valid: None,
            receipts: receipts.iter().map(receipt).collect(),
            share,
        }
    }

    fn valid(&self, count: usize, share: Share) -> Accepted {
        Accepted {
            status: "valid",
            topic: self.topic.to_string(),
            message: "a dry run: every event would be accepted, none was",
            accepted: 0,
            valid: Some(count),
            receipts: Vec::new(),
            share,
        }
    }
}

fn respond(accepted: Accepted, rate: Option<RateState>) -> Response {
    let mut response = http::respond(StatusCode::OK, "application/json", http::json_line(&accepted));
    response.body_mut().hold(accepted.share);
    if let Some(rate) = rate {
        rate.write_to(response.headers_mut());
    }
    response
}
