//! The HTTP API: one request, from its head to its response.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{ALLOW, EXPECT, HeaderMap, HeaderValue, ORIGIN};
use hyper::{Method, Request, StatusCode, Version};
use serde::Serialize;

use super::access_log::{AccessLog, Entry};
use super::auth::keys::Role;
use super::auth::{self, Auth};
use super::client::Client;
use super::dashboard::{self, Setting};
use super::docs::Documents;
use super::ingest::Ingest;
use super::metrics::Metrics;
use super::picture::{self, PictureQuery};
use super::problem::{PATHS, Problem, Row, catch_panic};
use super::reader_sites::ReaderSites;
use super::report::{Asker, Reports};
use super::request::deadline::Deadline;
use super::request::framing;
use super::request::id::{REQUEST_ID, request_id};
use super::request::query::{parse_dry_run, parse_none, parse_report, query};
use super::request::unread_body::{DISCARD_MEMORY_BYTES, UnreadBody};
use super::router::Route;
use super::websocket::handshake::Handshake;
use super::websocket::stream::{EventStream, SMALL_RESPONSE_BYTES_MAX, Streams};
use crate::http::trusted_proxies::Proxies;
use crate::http::{self, Peer, Response};
use crate::resource_pool::Pool;
use crate::site_names::SitesFile;

/// The routes of the API and what they use.
pub struct Api {
    pub auth: Arc<Auth>,
    pub ingest: Arc<Ingest>,
    pub reports: Reports,
    pub streams: Arc<Streams>,
    pub documents: Documents,
    /// The names of sites.
    pub sites: SitesFile,
    pub has_tls: bool,
    pub metrics: Metrics,
    pub access_log: AccessLog,
    /// Bytes that clients may make this process hold.
    pub memory: Arc<Pool>,
    pub proxies: Arc<Proxies>,
}

#[derive(Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    about: &'static str,
    paths: [&'static str; PATHS.len()],
}

const ABOUT: About = About {
    name: "captcha",
    version: env!("CARGO_PKG_VERSION"),
    about: "takes captcha events, counts each of them once, and tells how many were served and solved",
    paths: PATHS,
};

impl Api {
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let mut unread = UnreadBody::new(body, head.headers.contains_key(EXPECT));
        let mut request = Request::from_parts(head, ());
        let route = Route::from_path(request.uri().path());
        let id = request_id(request.headers());
        let origin = request.headers().get(ORIGIN).cloned();
        let deadline = self.ingest.bodies.deadline();
        let client = self.client(peer, request.headers());
        let log_entry = self.access_log.is_sampled();
        let log_entry = log_entry.then(|| Entry::new(&request, route, &id, &client));

        let mut parsed = None;
        let answering = async {
            let body = (&mut unread, &deadline);
            let mut response = self.route(route, &mut request, body, &client, &id, &mut parsed).await?;
            self.acquire_memory(route, &client, &mut response)?;
            Ok(response)
        };
        let outcome = catch_panic(&id, route.name(), answering).await;
        unread.discard(&deadline).await;
        let mut response = outcome.unwrap_or_else(|problem| {
            let row = problem.row();
            self.record_problem(&problem, &row, route, &request, &client, parsed);
            self.refuse(row, route, &request, &client)
        });
        let share = || self.memory.acquire(client.holder, DISCARD_MEMORY_BYTES);
        if let Some(rest) = unread.discard_rest(share, deadline) {
            response.body_mut().then(rest);
        }
        self.metrics.record_request(route, response.status(), started.elapsed());
        if let Some(entry) = log_entry {
            entry.log(response.status(), started.elapsed());
        }
        self.auth.decorate(origin.as_ref(), response.headers_mut());
        if matches!(route, Route::Report | Route::Dashboard | Route::Picture) {
            self.auth.isolate(response.headers_mut());
        }
        response.headers_mut().insert(REQUEST_ID, id);
        // Over HTTP/1, hyper leaves out the body of an answer to HEAD by itself.
        if request.method() == Method::HEAD && request.version() == Version::HTTP_2 {
            http::drop_content(&mut response);
        }
        response
    }

    fn client(&self, peer: Arc<Peer>, headers: &HeaderMap) -> Client {
        let address = self.proxies.client(peer.address.ip(), headers);
        Client {
            holder: self.proxies.holder(address),
            address,
            peer,
        }
    }

    async fn route(
        &self,
        route: Route,
        request: &mut Request<()>,
        body: (&mut UnreadBody, &Deadline),
        client: &Client,
        id: &HeaderValue,
        parsed: &mut Option<usize>,
    ) -> Result<Response, Problem> {
        framing::check(request)?;
        self.auth.check_host(request)?;
        match (route, request.method()) {
            (Route::Unknown, &Method::OPTIONS) if request.uri().path() == "*" => {
                Ok(options("GET, HEAD, POST, OPTIONS"))
            }
            (Route::Unknown, _) => Err(Problem::NotFound),
            (_, &Method::OPTIONS) => {
                let mut response = options(route.methods());
                let preflight = self.auth.preflight(request.headers());
                response.headers_mut().extend(preflight.unwrap_or_default());
                Ok(response)
            }
            (Route::Events, &Method::POST) => self.ingest.post_events(request, body, client, parsed).await,
            (Route::Stream, &Method::GET) => self.open_stream(request, client, id),
            // In a box: its future is large, and most requests are others.
            (Route::Report, &Method::GET | &Method::HEAD) => Box::pin(self.get_report(request, client)).await,
            (Route::Dashboard, &Method::GET | &Method::HEAD) => Box::pin(self.get_dashboard(request, client)).await,
            (Route::Picture, &Method::GET | &Method::HEAD) => Box::pin(self.get_picture(request, client)).await,
            (Route::About, &Method::GET | &Method::HEAD) => {
                parse_none(query(request))?;
                Ok(http::respond(
                    StatusCode::OK,
                    "application/json",
                    http::json_line(&ABOUT),
                ))
            }
            (Route::Document(name), &Method::GET | &Method::HEAD) => {
                parse_none(query(request))?;
                Ok(self.documents.respond(name, request.headers()))
            }
            _ => Err(Problem::MethodNotAllowed(route.methods())),
        }
    }

    async fn get_report(&self, request: &Request<()>, client: &Client) -> Result<Response, Problem> {
        let caller = self.auth.authenticate_reader(request.headers(), &client.peer)?;
        let mut report = parse_report(query(request)).map_err(Problem::Query)?;
        report.question.site_ids = caller.authorize_report(report.question.site_ids)?;
        let rate = caller.spend(1)?;
        let _in_progress = self.ingest.acquire_request(client.holder)?;
        let (reader, hung_up) = (caller.reader(client.holder), client.peer.hung_up());
        let response = self
            .reports
            .respond(report, request.headers(), &reader, client.holder, hung_up);
        let mut response = response.await?;
        if let Some(rate) = rate {
            rate.write_to(response.headers_mut());
        }
        Ok(response)
    }

    async fn get_dashboard(&self, request: &Request<()>, client: &Client) -> Result<Response, Problem> {
        let headers = request.headers();
        let caller = self.auth.authenticate_reader(headers, &client.peer);
        let caller = caller.map_err(|problem| self.auth.offer_basic(problem, headers))?;
        let sites = ReaderSites::new(self.sites.names(), &caller.authorize_report(Vec::new())?);
        let asker = Asker::new(&self.reports, caller.reader(client.holder), client.holder, &client.peer);
        let (mut rate, mut in_progress) = (None, None);
        let admit = |site_ids| {
            let site_ids = caller.authorize_report(site_ids)?;
            rate = caller.spend(1)?;
            in_progress = Some(self.ingest.acquire_request(client.holder)?);
            Ok(site_ids)
        };
        let setting = Setting {
            has_tls: self.has_tls,
            has_keys: caller.key_id().is_some(),
        };
        let answered = dashboard::respond(&asker, &sites, admit, (request, setting)).await;
        drop(in_progress);
        let (mut response, missing) = answered?;
        if let Some(problem) = missing {
            self.metrics.reject_report(&problem);
        }
        if let Some(rate) = rate {
            rate.write_to(response.headers_mut());
        }
        Ok(response)
    }

    async fn get_picture(&self, request: &Request<()>, client: &Client) -> Result<Response, Problem> {
        let headers = request.headers();
        let reader = self.auth.authenticate_picture(headers, query(request), &client.peer);
        let reader = reader.map_err(|problem| self.auth.offer_basic(problem, headers))?;
        let (caller, is_public) = (reader.caller, reader.is_public);
        let picture = PictureQuery::parse(&reader.query).map_err(Problem::Query)?;
        let sites = ReaderSites::new(self.sites.names(), &caller.authorize_report(Vec::new())?);
        let site_ids = caller.authorize_report(picture.question.site_ids.clone())?;
        let rate = caller.spend(1)?;
        let _in_progress = self.ingest.acquire_request(client.holder)?;
        let asker = Asker::new(&self.reports, caller.reader(client.holder), client.holder, &client.peer);
        let response = picture::respond(&asker, &sites, picture, site_ids, headers, is_public).await;
        let mut response = response?;
        if let Some(rate) = rate {
            rate.write_to(response.headers_mut());
        }
        Ok(response)
    }

    fn open_stream(&self, request: &mut Request<()>, client: &Client, id: &HeaderValue) -> Result<Response, Problem> {
        let handshake = Handshake::from_headers(request.version(), request.headers())?;
        self.auth.check_page(request.headers())?;
        let stream = EventStream {
            caller: self.auth.authenticate(Role::Write, request.headers(), &client.peer)?,
            address: client.address,
            holder: client.holder,
            peer: Arc::downgrade(&client.peer),
            dry_run: parse_dry_run(query(request))?,
            id: id.clone(),
        };
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(Arc::clone(&self.streams).run(upgrade, Arc::clone(&client.peer), stream));
        Ok(handshake.respond())
    }

    /// Counts what a problem refuses, and logs some requests without a valid key.
    fn record_problem(
        &self,
        problem: &Problem,
        row: &Row,
        route: Route,
        request: &Request<()>,
        client: &Client,
        parsed: Option<usize>,
    ) {
        let sends_events = route == Route::Events
            && request.method() == Method::POST
            && parse_dry_run(query(request)).ok() != Some(true);
        if sends_events {
            self.metrics.reject_events(row.reason, problem.rejected_events(parsed));
        }
        if matches!(route, Route::Report | Route::Dashboard | Route::Picture) {
            self.metrics.reject_report(problem);
        }
        let (key, certificate) = (
            auth::claimed_id(request, route == Route::Picture),
            client.peer.certificate.as_deref(),
        );
        self.auth
            .record_rejection(problem, key.as_deref(), certificate, client.address);
    }

    /// The response to a request that is refused, of the dashboard a page; without the list of errors where there is no
    /// memory for it.
    fn refuse(&self, row: Row, route: Route, request: &Request<()>, client: &Client) -> Response {
        let mut response = match route {
            Route::Dashboard => dashboard::problem_page(row, request),
            _ => row.into_response(),
        };
        match self.acquire_memory(Route::Unknown, client, &mut response) {
            Ok(()) => response,
            Err(problem) => problem.row().into_response(),
        }
    }

    /// Acquires memory for a response that does not hold it yet.
    fn acquire_memory(&self, route: Route, client: &Client, response: &mut Response) -> Result<(), Problem> {
        let bytes = response.body().bytes();
        if !client.peer.acquire_send_buffer(bytes, client.holder) {
            return Err(Problem::MemoryFull);
        }
        // Documents are part of the executable.
        let is_counted = response.body().has_share() || matches!(route, Route::Document(_));
        let uncounted = bytes.filter(|bytes| *bytes > SMALL_RESPONSE_BYTES_MAX && !is_counted);
        if let Some(bytes) = uncounted {
            let share = self.memory.acquire(client.holder, bytes);
            response.body_mut().hold(share.ok_or(Problem::MemoryFull)?);
        }
        Ok(())
    }
}

fn options(methods: &'static str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, methods);
    response
}
