//! Who may do what: keys where there are any, for the sites that are theirs, at their rates; and which web pages.

pub mod cors;
pub mod hosts;
pub mod keys;
pub mod refusals;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use uuid::Uuid;

use self::cors::Cors;
use self::hosts::{Hosts, is_beyond_dns};
use self::keys::{Denied, Key, Keyring, RateState, Role};
use self::refusals::KeyRefusals;
use super::problem::{ParameterError, Problem};
use super::report::reader::Reader;
use crate::clickhouse::Filter;
use crate::event::{ERRORS_MAX, Event, FieldError};
use crate::http::{ClientCertificate, Peer};
use crate::resource_pool::Holder;

/// Characters of a header that an answer repeats: the longest name of a host, with a scheme and a port.
const SHOWN_CHARS_MAX: usize = 272;

/// Lets requests in.
pub struct Gate {
    keys: Option<Arc<Keyring>>,
    /// Whether clients may show a certificate.
    takes_certificates: bool,
    cors: Option<Cors>,
    hosts: Option<Hosts>,
    refusals: KeyRefusals,
}

/// Who sends a request.
#[derive(Clone)]
pub struct Caller {
    /// What it may do; all where there are no keys.
    key: Option<Arc<Key>>,
    /// What it has shown, if it was let in by that.
    certificate: Option<Arc<ClientCertificate>>,
}

impl Gate {
    /// Without keys everybody is let in, or everybody with a certificate if those are taken; without CORS no page of
    /// another origin; without hosts requests for any.
    pub fn new(
        keys: Option<Arc<Keyring>>,
        takes_certificates: bool,
        cors: Option<Cors>,
        hosts: Option<Hosts>,
        refusals: KeyRefusals,
    ) -> Gate {
        Gate {
            keys,
            takes_certificates,
            cors,
            hosts,
            refusals,
        }
    }

    /// Lets a request in that asks for this server by one of its names.
    ///
    /// # Errors
    /// 421.
    pub fn admit_host<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        match self.hosts.as_ref().map(|hosts| hosts.check(request)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(host)) => Err(Problem::ForeignHost(cut(&host))),
        }
    }

    /// Records what is answered to one who was not let in; other problems are left to others.
    pub fn record_refusal(
        &self,
        problem: &Problem,
        key: Option<&str>,
        certificate: Option<&ClientCertificate>,
        address: IpAddr,
    ) {
        self.refusals.record(problem, key, certificate, address);
    }

    /// Who wants to do what a role is for.
    ///
    /// # Errors
    /// 401: nobody that is known. 403: a key of the other role.
    pub fn caller(&self, role: Role, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Problem> {
        let (key, certificate) = match (&self.keys, peer.certificate.as_ref()) {
            (None, _) if !self.takes_certificates => (None, None),
            (None, certificate) => (None, Some(still_valid(certificate)?)),
            // A key that is sent is what counts, even if it is a wrong one.
            (Some(keys), certificate @ Some(_)) if !headers.contains_key(AUTHORIZATION) => {
                let certificate = still_valid(certificate)?;
                let key = keys.identify_certificate(certificate.names(), role);
                (Some(key.map_err(Problem::Denied)?), Some(certificate))
            }
            (Some(keys), _) => {
                let key = keys.identify(headers).map_err(|denied| self.denied(denied));
                (Some(key?), None)
            }
        };
        check_role(key.as_deref(), role)?;
        let certificate = certificate.cloned();
        Ok(Caller { key, certificate })
    }

    /// One who sends events as the key file has it by now, for connections that stay.
    ///
    /// # Errors
    /// 401: its key was withdrawn, or has expired, or its certificate has. 403: its role has changed.
    pub fn renew(&self, caller: &Caller) -> Result<Caller, Problem> {
        let mut caller = caller.clone();
        if caller.certificate.is_some() {
            still_valid(caller.certificate.as_ref())?;
        }
        if let (Some(keys), Some(key)) = (&self.keys, &caller.key) {
            caller.key = Some(keys.renewed(key).map_err(Problem::Denied)?);
        }
        check_role(caller.key.as_deref(), Role::Write)?;
        Ok(caller)
    }

    fn denied(&self, denied: Denied) -> Problem {
        Problem::Denied(match denied {
            Denied::Missing if self.takes_certificates => Denied::MissingBoth,
            denied => denied,
        })
    }

    /// Lets a WebSocket in, for which browsers do not ask first: of a page it has to be ours or an allowed one. Ours is one of
    /// the host that was asked for. Where neither names of this server nor keys nor certificates are asked for, that host has to be one that
    /// nobody else's name service can point here.
    ///
    /// # Errors
    /// 403.
    pub fn admit_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        if self.cors.as_ref().is_some_and(|cors| cors.allows(origin)) {
            return Ok(());
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let (origin, host) = (text(origin), headers.get(HOST).map(text).unwrap_or_default());
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(&host)) {
            let (origin, host) = (cut(&origin), cut(&host));
            return Err(Problem::ForeignPage { origin, host });
        }
        // A client that shows a certificate has held ours against the name, so TLS has kept the page out.
        let is_guarded = self.hosts.is_some() || self.keys.is_some() || self.takes_certificates;
        match is_guarded || is_beyond_dns(&host) {
            true => Ok(()),
            false => Err(Problem::UnknownHost(cut(&host))),
        }
    }

    /// What a browser is told that asks before it sends; `None` if none asks or no page of another origin may call.
    pub fn preflight(&self, request: &HeaderMap) -> Option<HeaderMap> {
        self.cors.as_ref()?.preflight(request)
    }

    /// Lets the page of `origin` read an answer, if it may.
    pub fn decorate(&self, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if let Some(cors) = &self.cors {
            cors.decorate(origin, answer);
        }
    }
}

/// The certificate of a connection, if it is there and good by now.
fn still_valid(certificate: Option<&Arc<ClientCertificate>>) -> Result<&Arc<ClientCertificate>, Problem> {
    let certificate = certificate.filter(|certificate| certificate.is_valid());
    certificate.ok_or(Problem::Denied(Denied::CertificateInvalid))
}

fn check_role(key: Option<&Key>, role: Role) -> Result<(), Problem> {
    match (key.map(Key::role), role) {
        (Some(Role::Write), Role::Read) => Err(Problem::WrongRole("sends events")),
        (Some(Role::Read), Role::Write) => Err(Problem::WrongRole("reads reports")),
        _ => Ok(()),
    }
}

/// As much of a header as an answer repeats.
fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

impl Caller {
    /// The ID of its key.
    pub fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.id())
    }

    /// The certificate that it was let in by.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// Checks that all events, of an array or lines or one alone, are of sites that are the caller's.
    ///
    /// # Errors
    /// 403, with the events that are not.
    pub fn check(&self, events: &[Event], is_array: bool) -> Result<(), Problem> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        let foreign: Vec<_> = events
            .iter()
            .enumerate()
            .filter(|(_, event)| !key.sites().contains(&event.site_id))
            .map(|(index, _)| FieldError {
                pointer: match is_array {
                    true => format!("/{index}/site_id"),
                    false => "/site_id".to_string(),
                },
                detail: "not a site of this key".to_string(),
            })
            .take(ERRORS_MAX)
            .collect();
        match foreign.is_empty() {
            true => Ok(()),
            false => Err(Problem::ForeignEvents(foreign)),
        }
    }

    /// Checks that so many events may ever come at once, and takes none of the rate.
    ///
    /// # Errors
    /// 413.
    pub fn check_burst(&self, count: usize) -> Result<(), Problem> {
        let checked = self.key.as_ref().map(|key| key.check_burst(count));
        checked.unwrap_or(Ok(())).map_err(Problem::RateLimited)
    }

    /// Takes events, or one request, of the caller's rate.
    ///
    /// # Errors
    /// 429, or 413 if it can never be.
    pub fn take(&self, count: usize) -> Result<Option<RateState>, Problem> {
        let taken = self.key.as_ref().map(|key| key.take(count));
        taken.transpose().map(Option::flatten).map_err(Problem::RateLimited)
    }

    /// With whom it shares its part of the reports: all that have its key, or its address.
    pub fn reader(&self, holder: Holder) -> Reader {
        match &self.key {
            Some(key) => Reader::Key(key.id().into()),
            None => Reader::Client(holder),
        }
    }

    /// Narrows a report to the sites that are the caller's.
    ///
    /// # Errors
    /// 403, with the sites that were asked for and are not.
    pub fn narrow(&self, mut filter: Filter) -> Result<Filter, Problem> {
        let Some(key) = &self.key else {
            return Ok(filter);
        };
        let is_foreign = |site_id: &&Uuid| !key.sites().contains(site_id);
        let foreign: Vec<_> = filter
            .site_ids
            .iter()
            .filter(is_foreign)
            .map(|site_id| ParameterError {
                parameter: "site_id".to_string(),
                detail: format!("{site_id} is not a site of this key"),
            })
            .take(ERRORS_MAX)
            .collect();
        if !foreign.is_empty() {
            return Err(Problem::ForeignSites(foreign));
        }
        if filter.site_ids.is_empty() {
            filter.site_ids = key.sites().listed();
        }
        Ok(filter)
    }
}
