//! The HTTP API: which request is answered with what.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, EXPECT, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::accept::{Accepted, Acceptor};
use super::access::{AccessLog, Entry};
use super::body::Body;
use super::documents::Documents;
use super::form::Form;
use super::gate::{Caller, Gate};
use super::head;
use super::keys::RateState;
use super::metrics::Metrics;
use super::pace::Pace;
use super::problem::{PATHS, Problem};
use super::refused::Refused;
use super::reports::Reports;
use super::request::{REQUEST_ID, Route, no_parameters, parse_dry_run, parse_filter, request_id};
use super::session::Terms;
use super::stream::{self, Handshake};
use crate::http::{self, Answer, Peer};

/// Everything that answering takes.
pub struct Api {
    acceptor: Acceptor,
    reports: Reports,
    metrics: Metrics,
    gate: Gate,
    documents: Documents,
    access: AccessLog,
    requests_max: usize,
    /// Requests that may still begin.
    free: Arc<Semaphore>,
    pace: Pace,
    streams: Terms,
}

/// What counts for all messages of a stream.
#[derive(Clone)]
struct MessageTerms {
    caller: Caller,
    dry_run: bool,
    /// Of the handshake.
    id: HeaderValue,
}

#[derive(Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    paths: [&'static str; PATHS.len()],
}

impl Api {
    /// An API, which has at most `requests_max` requests and messages of streams in progress.
    pub fn new(
        acceptor: Acceptor,
        reports: Reports,
        metrics: Metrics,
        gate: Gate,
        access: AccessLog,
        requests_max: u32,
        streams: Terms,
    ) -> Api {
        Api {
            acceptor,
            reports,
            metrics,
            gate,
            documents: Documents::new(),
            access,
            requests_max: requests_max as usize,
            free: Arc::new(Semaphore::new(requests_max as usize)),
            pace: Pace::new(),
            streams,
        }
    }

    /// Requests in progress.
    pub fn in_progress(&self) -> usize {
        self.requests_max - self.free.available_permits()
    }

    /// Bytes of all bodies in progress.
    pub fn bodies_bytes(&self) -> usize {
        self.acceptor.bodies().in_progress_bytes()
    }

    /// Readers who wait for their turn.
    pub fn reports_waiting(&self) -> usize {
        self.reports.waiting()
    }

    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Answer {
        let began = Instant::now();
        let route = Route::of(request.uri().path());
        let id = request_id(request.headers());
        let origin = request.headers().get(ORIGIN).cloned();
        let entry = self
            .access
            .is_sampled()
            .then(|| Entry::of(&request, &id, peer.address));
        let place = Arc::clone(&self.free).try_acquire_owned();
        let is_full = place.is_err();
        let sends_events = route == Route::Events
            && request.method() == Method::POST
            && parse_dry_run(query(&request)).ok() != Some(true);
        let answering = async {
            match is_full {
                true => Err(Problem::RequestsFull.into()),
                false => self.answer(route, request, peer, &id).await,
            }
        };
        let answer = surviving(&id, route, answering).await;
        let mut answer = answer.unwrap_or_else(|refused: Refused| {
            if sends_events {
                self.metrics.refused(&refused);
            }
            refused.problem.into_answer(|| self.retry_after())
        });
        self.metrics
            .answered(route, answer.status(), began.elapsed());
        if let Some(entry) = entry {
            entry.log(answer.status(), began.elapsed());
        }
        if let Ok(place) = place {
            self.pace.done();
            // An answer that nobody reads is in progress too.
            answer.body_mut().hold(place);
        }
        self.gate.decorate(origin.as_ref(), answer.headers_mut());
        answer.headers_mut().insert(REQUEST_ID, id);
        answer
    }

    /// Seconds until what is in progress now will be done.
    fn retry_after(&self) -> u64 {
        self.pace.retry_after(self.in_progress())
    }

    async fn answer(
        self: &Arc<Self>,
        route: Route,
        request: Request<Incoming>,
        peer: Arc<Peer>,
        id: &HeaderValue,
    ) -> Result<Answer, Refused> {
        head::check(&request)?;
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
            (Route::Events, &Method::POST) => self.accept(request).await,
            (Route::Stream, &Method::GET) => Ok(self.open_stream(request, peer, id)?),
            (Route::Report, &Method::GET | &Method::HEAD) => {
                Ok(self.report(&request, &peer).await?)
            }
            (Route::About, &Method::GET | &Method::HEAD) => {
                no_parameters(query(&request))?;
                Ok(json(&about()))
            }
            (Route::Document(name), &Method::GET | &Method::HEAD) => {
                no_parameters(query(&request))?;
                Ok(self.documents.answer(name, request.headers()))
            }
            _ => Err(Problem::MethodNotAllowed(route.methods()).into()),
        }
    }

    async fn report(&self, request: &Request<Incoming>, peer: &Peer) -> Result<Answer, Problem> {
        let caller = self.gate.reader(request.headers())?;
        let filter = parse_filter(query(request)).map_err(Problem::Query)?;
        let filter = caller.narrow(filter)?;
        let rate = caller.take(1)?;
        let answer = self.reports.answer(&filter, peer.hung_up()).await;
        let answer = answer.inspect_err(|problem| self.metrics.no_report(problem))?;
        Ok(with_rate(answer, rate))
    }

    async fn accept(&self, request: Request<Incoming>) -> Result<Answer, Refused> {
        let caller = self.gate.writer(request.headers())?;
        let dry_run = parse_dry_run(query(&request))?;
        let form = Form::of(request.headers())?;
        // Who asked first whether to send the body has not sent it, and is not made to.
        let asks_first = request.headers().contains_key(EXPECT);
        let bodies = self.acceptor.bodies();
        let body = bodies.read(request.into_body(), asks_first).await?;
        let accepting = self.acceptor.accept(body, form, &caller, dry_run);
        let (accepted, rate) = accepting.await?;
        Ok(with_rate(json(&accepted), rate))
    }

    fn open_stream(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        peer: Arc<Peer>,
        id: &HeaderValue,
    ) -> Result<Answer, Problem> {
        let handshake = Handshake::of(request.version(), request.headers())?;
        self.gate.admit_page(request.headers())?;
        let terms = MessageTerms {
            caller: self.gate.writer(request.headers())?,
            dry_run: parse_dry_run(query(&request))?,
            id: id.clone(),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let api = Arc::clone(self);
        tokio::spawn(async move {
            let (gauge, bodies) = (api.metrics.streams_open.clone(), api.acceptor.bodies());
            let answer = |message| Arc::clone(&api).answer_message(message, terms.clone());
            stream::run(upgrade, peer, gauge, bodies, &api.streams, answer).await;
        });
        Ok(handshake.answer())
    }

    /// Answers one message of a stream.
    async fn answer_message(
        self: Arc<Self>,
        message: Result<Body, Problem>,
        terms: MessageTerms,
    ) -> String {
        let answering = self.accept_message(message, &terms);
        let (status, text) = match surviving(&terms.id, Route::Stream, answering).await {
            Ok(accepted) => (StatusCode::OK, http::json_line(&accepted)),
            Err(refused) => {
                if !terms.dry_run {
                    self.metrics.refused(&refused);
                }
                refused.problem.into_text(|| self.retry_after())
            }
        };
        self.metrics.message_answered(status);
        text
    }

    async fn accept_message(
        &self,
        message: Result<Body, Problem>,
        terms: &MessageTerms,
    ) -> Result<Accepted<'_>, Refused> {
        let _permit = self.free.try_acquire().map_err(|_| Problem::RequestsFull)?;
        // As the key file has it by now.
        let caller = self.gate.renew(&terms.caller)?;
        let accepting = self
            .acceptor
            .accept(message?, Form::JSON, &caller, terms.dry_run);
        let accepted = accepting.await;
        self.pace.done();
        Ok(accepted?.0)
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

fn query(request: &Request<Incoming>) -> &str {
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

fn options(methods: &'static str) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static(methods);
    answer.headers_mut().insert(ALLOW, methods);
    answer
}

fn with_rate(mut answer: Answer, rate: Option<RateState>) -> Answer {
    if let Some(rate) = rate {
        rate.write_to(answer.headers_mut());
    }
    answer
}

fn json(value: &impl Serialize) -> Answer {
    http::answer(StatusCode::OK, "application/json", http::json_line(value))
}
