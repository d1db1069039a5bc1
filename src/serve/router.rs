//! The HTTP API: which request is answered with what.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Instant;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, EXPECT, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use super::access_log::{AccessLog, Entry};
use super::auth::keys::{self, RateState, Role};
use super::auth::{Caller, Gate};
use super::docs::Documents;
use super::ingest::{Accepted, Acceptor};
use super::metrics::Metrics;
use super::problem::{PATHS, Problem};
use super::rejection::Refused;
use super::report::Reports;
use super::request::body::{Body, Deadline};
use super::request::content_type::Form;
use super::request::discard::{DISCARD_MEMORY_BYTES, Unread};
use super::request::{REQUEST_ID, Route, framing, no_parameters, parse_dry_run, parse_filter, request_id};
use super::retry_after::Pace;
use super::websocket::session::{Reply, Terms};
use super::websocket::{self, Handshake};
use crate::http::trusted_proxies::Proxies;
use crate::http::{self, Peer, Response};
use crate::resource_pool::{Holder, Pool, Share};

/// An answer that is a part of what each connection or stream takes. A longer one is counted for itself.
const SMALL_ANSWER_BYTES_MAX: usize = 1 << 10;

/// Everything that answering takes.
pub struct Api {
    acceptor: Acceptor,
    reports: Reports,
    metrics: Metrics,
    gate: Gate,
    documents: Documents,
    access: AccessLog,
    pools: Pools,
    pace: Pace,
    streams: Terms,
}

/// What clients share, and who they are.
pub struct Pools {
    /// Requests and messages of streams that came whole and are not answered.
    pub requests: Arc<Pool>,
    /// Bytes that clients make us hold.
    pub memory: Arc<Pool>,
    /// The proxies before us.
    pub proxies: Arc<Proxies>,
}

/// Who sends a request, over which connection.
struct Sender {
    peer: Arc<Peer>,
    client: IpAddr,
    holder: Holder,
}

/// What counts for all messages of a stream.
#[derive(Clone)]
struct MessageTerms {
    caller: Caller,
    client: IpAddr,
    holder: Holder,
    /// Open for as long as the stream is.
    peer: Weak<Peer>,
    dry_run: bool,
    /// Of the handshake.
    id: HeaderValue,
}

impl MessageTerms {
    fn may_be_sent(&self, bytes: usize) -> bool {
        let peer = self.peer.upgrade();
        peer.is_some_and(|peer| peer.acquire_send_buffer(Some(bytes), self.holder))
    }
}

#[derive(Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    paths: [&'static str; PATHS.len()],
}

impl Api {
    /// An API.
    pub fn new(
        acceptor: Acceptor,
        reports: Reports,
        metrics: Metrics,
        gate: Gate,
        access: AccessLog,
        pools: Pools,
        streams: Terms,
    ) -> Api {
        Api {
            acceptor,
            reports,
            metrics,
            gate,
            documents: Documents::new(),
            access,
            pools,
            pace: Pace::new(),
            streams,
        }
    }

    /// Readers who wait for their turn.
    pub fn reports_waiting(&self) -> usize {
        self.reports.waiting()
    }

    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let mut unread = Unread::new(body, head.headers.contains_key(EXPECT));
        let mut request = Request::from_parts(head, ());
        let route = Route::of(request.uri().path());
        let id = request_id(request.headers());
        let origin = request.headers().get(ORIGIN).cloned();
        let deadline = self.acceptor.bodies().deadline();
        let sender = self.sender(peer, request.headers());
        let entry = self
            .access
            .is_sampled()
            .then(|| Entry::of(&request, &id, sender.client, &sender.peer));
        let sends_events = route == Route::Events
            && request.method() == Method::POST
            && parse_dry_run(query(&request)).ok() != Some(true);
        let answering = async {
            let body = (&mut unread, &deadline);
            let answering = self.answer(route, &mut request, body, &sender, &id);
            let mut answer = answering.await?;
            self.charge(route, &sender, &mut answer)?;
            Ok(answer)
        };
        let answer = surviving(&id, route, answering).await;
        unread.discard(&deadline).await;
        let mut answer = answer.unwrap_or_else(|refused: Refused| {
            if sends_events {
                self.metrics.refused(&refused);
            }
            let key = request.headers().get(AUTHORIZATION);
            let key = key.and_then(keys::claimed_id);
            let certificate = sender.peer.certificate.as_deref();
            let problem = &refused.problem;
            self.gate.record_refusal(problem, key, certificate, sender.client);
            self.refuse(refused, &sender)
        });
        let share = || self.pools.memory.take(sender.holder, DISCARD_MEMORY_BYTES);
        if let Some(rest) = unread.discard_rest(share, deadline) {
            answer.body_mut().then(rest);
        }
        self.metrics.answered(route, answer.status(), began.elapsed());
        if let Some(entry) = entry {
            entry.log(answer.status(), began.elapsed());
        }
        self.gate.decorate(origin.as_ref(), answer.headers_mut());
        answer.headers_mut().insert(REQUEST_ID, id);
        answer
    }

    fn sender(&self, peer: Arc<Peer>, headers: &HeaderMap) -> Sender {
        let client = self.pools.proxies.client(peer.address.ip(), headers);
        Sender {
            holder: self.pools.proxies.holder(client),
            client,
            peer,
        }
    }

    /// Takes memory for an answer that does not hold what it needs.
    fn charge(&self, route: Route, sender: &Sender, answer: &mut Response) -> Result<(), Problem> {
        let bytes = answer.body().bytes();
        if !sender.peer.acquire_send_buffer(bytes, sender.holder) {
            return Err(Problem::MemoryFull);
        }
        // Documents are in the executable.
        let is_counted = answer.body().has_share() || matches!(route, Route::Document(_));
        let counted = bytes.filter(|bytes| *bytes > SMALL_ANSWER_BYTES_MAX && !is_counted);
        if let Some(bytes) = counted {
            let share = self.pools.memory.take(sender.holder, bytes);
            answer.body_mut().hold(share.ok_or(Problem::MemoryFull)?);
        }
        Ok(())
    }

    /// The answer to a request that is refused; without the list of what is wrong where there is no memory for it.
    fn refuse(&self, refused: Refused, sender: &Sender) -> Response {
        let mut answer = refused.problem.into_answer(|| self.retry_after());
        match self.charge(Route::Unknown, sender, &mut answer) {
            Ok(()) => answer,
            Err(problem) => problem.into_answer(|| self.retry_after()),
        }
    }

    /// A place among the requests in progress.
    fn place(&self, holder: Holder) -> Result<Place<'_>, Problem> {
        let share = self.pools.requests.take(holder, 1);
        Ok(Place {
            pace: &self.pace,
            _share: share.ok_or(Problem::RequestsFull)?,
        })
    }

    /// Seconds until what is in progress now will be done.
    fn retry_after(&self) -> u64 {
        self.pace.retry_after(self.pools.requests.taken())
    }

    async fn answer(
        self: &Arc<Self>,
        route: Route,
        request: &mut Request<()>,
        body: (&mut Unread, &Deadline),
        sender: &Sender,
        id: &HeaderValue,
    ) -> Result<Response, Refused> {
        framing::check(request)?;
        self.gate.admit_host(request)?;
        match (route, request.method()) {
            (Route::Unknown, &Method::OPTIONS) if request.uri().path() == "*" => {
                Ok(options("GET, HEAD, POST, OPTIONS"))
            }
            (Route::Unknown, _) => Err(Problem::NotFound.into()),
            (_, &Method::OPTIONS) => {
                let mut answer = options(route.methods());
                let preflight = self.gate.preflight(request.headers());
                answer.headers_mut().extend(preflight.unwrap_or_default());
                Ok(answer)
            }
            (Route::Events, &Method::POST) => self.accept(request, body, sender).await,
            (Route::Stream, &Method::GET) => Ok(self.open_stream(request, sender, id)?),
            (Route::Report, &Method::GET | &Method::HEAD) => {
                // In a box: it is large, and most requests are others.
                Ok(Box::pin(self.report(request, sender)).await?)
            }
            (Route::About, &Method::GET | &Method::HEAD) => {
                no_parameters(query(request))?;
                Ok(json(&about()))
            }
            (Route::Document(name), &Method::GET | &Method::HEAD) => {
                no_parameters(query(request))?;
                Ok(self.documents.answer(name, request.headers()))
            }
            _ => Err(Problem::MethodNotAllowed(route.methods()).into()),
        }
    }

    async fn report(&self, request: &Request<()>, sender: &Sender) -> Result<Response, Problem> {
        let caller = self.gate.caller(Role::Read, request.headers(), &sender.peer)?;
        let filter = parse_filter(query(request)).map_err(Problem::Query)?;
        let filter = caller.narrow(filter)?;
        let rate = caller.take(1)?;
        let _place = self.place(sender.holder)?;
        let share = self.pools.memory.share(sender.holder);
        let (reader, hung_up) = (caller.reader(sender.holder), sender.peer.hung_up());
        let answer = self.reports.answer(&filter, &reader, share, hung_up).await;
        let answer = answer.inspect_err(|problem| self.metrics.no_report(problem))?;
        Ok(with_rate(answer, rate))
    }

    async fn accept(
        &self,
        request: &Request<()>,
        (unread, deadline): (&mut Unread, &Deadline),
        sender: &Sender,
    ) -> Result<Response, Refused> {
        let caller = self.gate.caller(Role::Write, request.headers(), &sender.peer)?;
        let dry_run = parse_dry_run(query(request))?;
        let form = Form::of(request.headers())?;
        let hurry = || sender.peer.grow_receive_buffer(sender.holder);
        let bodies = self.acceptor.bodies();
        bodies.check_announced(unread.announced_bytes())?;
        let body = bodies.read(unread.body(), sender.holder, deadline, hurry);
        let body = body.await?;
        unread.ended();
        let _place = self.place(sender.holder)?;
        let may_be_sent = |bytes| sender.peer.acquire_send_buffer(Some(bytes), sender.holder);
        let accepting = self.acceptor.accept(body, form, &caller, dry_run, may_be_sent);
        let (accepted, rate) = accepting.await?;
        let mut answer = json(&accepted);
        answer.body_mut().hold(accepted.share);
        Ok(with_rate(answer, rate))
    }

    fn open_stream(
        self: &Arc<Self>,
        request: &mut Request<()>,
        sender: &Sender,
        id: &HeaderValue,
    ) -> Result<Response, Problem> {
        let handshake = Handshake::of(request.version(), request.headers())?;
        self.gate.admit_page(request.headers())?;
        let terms = MessageTerms {
            caller: self.gate.caller(Role::Write, request.headers(), &sender.peer)?,
            client: sender.client,
            holder: sender.holder,
            peer: Arc::downgrade(&sender.peer),
            dry_run: parse_dry_run(query(request))?,
            id: id.clone(),
        };
        let upgrade = hyper::upgrade::on(request);
        let (api, peer) = (Arc::clone(self), Arc::clone(&sender.peer));
        tokio::spawn(async move {
            let (gauge, bodies) = (api.metrics.streams_open.clone(), api.acceptor.bodies());
            let answer = |message| Arc::clone(&api).answer_message(message, terms.clone());
            let share = || bodies.share(terms.holder);
            websocket::run(
                upgrade,
                peer,
                gauge,
                bodies.body_bytes_max(),
                share,
                &api.streams,
                answer,
            )
            .await;
        });
        Ok(handshake.answer())
    }

    /// Answers one message of a stream.
    async fn answer_message(self: Arc<Self>, message: Result<Body, Problem>, terms: MessageTerms) -> Reply {
        let answering = self.accept_message(message, &terms);
        let (status, text, share) = match surviving(&terms.id, Route::Stream, answering).await {
            Ok(accepted) => {
                let text = http::json_line(&accepted);
                (StatusCode::OK, text, accepted.share)
            }
            Err(refused) => {
                if !terms.dry_run {
                    self.metrics.refused(&refused);
                }
                let (key, certificate) = (terms.caller.key_id(), terms.caller.certificate());
                let (problem, client) = (&refused.problem, terms.client);
                self.gate.record_refusal(problem, key, certificate, client);
                self.refuse_message(refused, &terms)
            }
        };
        self.metrics.message_answered(status);
        Reply::new(text, share)
    }

    /// As [`Api::refuse`].
    fn refuse_message(&self, refused: Refused, terms: &MessageTerms) -> (StatusCode, String, Share) {
        let (status, text) = refused.problem.into_text(|| self.retry_after());
        let mut share = self.pools.memory.share(terms.holder);
        let is_small = text.len() <= SMALL_ANSWER_BYTES_MAX;
        if is_small || (terms.may_be_sent(text.len()) && share.grow(text.len())) {
            return (status, text, share);
        }
        let (status, text) = Problem::MemoryFull.into_text(|| self.retry_after());
        (status, text, share)
    }

    async fn accept_message(
        &self,
        message: Result<Body, Problem>,
        terms: &MessageTerms,
    ) -> Result<Accepted<'_>, Refused> {
        let _place = self.place(terms.holder)?;
        // As the key file has it by now.
        let caller = self.gate.renew(&terms.caller)?;
        let accepting = self
            .acceptor
            .accept(message?, Form::JSON, &caller, terms.dry_run, |bytes| {
                terms.may_be_sent(bytes)
            });
        Ok(accepting.await?.0)
    }
}

/// A place among the requests in progress; one that is done is counted.
struct Place<'a> {
    pace: &'a Pace,
    _share: Share,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pace.done();
    }
}

/// Turns a panic of our own code, which the log has under the request's id, into an answer.
async fn surviving<T>(
    id: &HeaderValue,
    route: Route,
    answering: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        tracing::error!(request_id = ?id, route = route.name(), "a request failed on a bug");
        Err(Problem::Bug.into())
    })
}

fn query<B>(request: &Request<B>) -> &str {
    request.uri().query().unwrap_or_default()
}

fn about() -> About {
    About {
        name: "captcha",
        version: env!("CARGO_PKG_VERSION"),
        about: "takes captcha events, counts each of them once, and tells how many were served and solved",
        paths: PATHS,
    }
}

fn options(methods: &'static str) -> Response {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static(methods);
    answer.headers_mut().insert(ALLOW, methods);
    answer
}

fn with_rate(mut answer: Response, rate: Option<RateState>) -> Response {
    if let Some(rate) = rate {
        rate.write_to(answer.headers_mut());
    }
    answer
}

fn json(value: &impl Serialize) -> Response {
    http::respond(StatusCode::OK, "application/json", http::json_line(value))
}
