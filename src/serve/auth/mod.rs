//! Authentication and authorization: keys and client certificates, their sites and rates, hosts, and web pages.

pub mod cors;
pub mod hosts;
pub mod keys;
mod rejections;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use uuid::Uuid;

use self::cors::Cors;
use self::hosts::{Hosts, is_beyond_dns};
use self::keys::{Denied, Key, Keyring, RateState, Role};
pub use self::rejections::KeyRejections;
use super::problem::{ParameterError, Problem};
use super::report::reader::Reader;
use crate::event::{ERRORS_MAX, Event, FieldError};
use crate::http::{ClientCertificate, Peer};
use crate::resource_pool::Holder;

/// Characters of a header that a response repeats: the longest name of a host, with a scheme and a port.
const SHOWN_CHARS_MAX: usize = 272;

/// Decides which requests are let in.
pub struct Auth {
    keys: Option<Arc<Keyring>>,
    /// Whether clients may show a certificate.
    takes_certificates: bool,
    cors: Option<Cors>,
    hosts: Option<Hosts>,
    rejections: KeyRejections,
}

/// The sender of a request.
#[derive(Clone)]
pub struct Caller {
    /// Limits what it may do; `None` allows everything, where there are no keys.
    key: Option<Arc<Key>>,
    /// The certificate, if it was let in by that.
    certificate: Option<Arc<ClientCertificate>>,
}

impl Auth {
    /// Without keys everybody is let in, or everybody with a certificate if those are taken; without CORS no page of
    /// another origin; without hosts requests for any.
    pub fn new(
        keys: Option<Arc<Keyring>>,
        takes_certificates: bool,
        cors: Option<Cors>,
        hosts: Option<Hosts>,
        rejections: KeyRejections,
    ) -> Auth {
        Auth {
            keys,
            takes_certificates,
            cors,
            hosts,
            rejections,
        }
    }

    /// Checks that a request asks for this server by one of its names.
    ///
    /// # Errors
    /// 421.
    pub fn check_host<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        match self.hosts.as_ref().map(|hosts| hosts.check(request)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(host)) => Err(Problem::ForeignHost(truncate(&host))),
        }
    }

    /// Counts a problem with a key, and logs some of them. Ignores other problems.
    pub fn record_rejection(
        &self,
        problem: &Problem,
        key: Option<&str>,
        certificate: Option<&ClientCertificate>,
        address: IpAddr,
    ) {
        self.rejections.record(problem, key, certificate, address);
    }

    /// The caller of a request that needs a role.
    ///
    /// # Errors
    /// 401: no valid key or certificate. 403: a key of the other role.
    pub fn authenticate(&self, role: Role, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Problem> {
        let (key, certificate) = match (&self.keys, peer.certificate.as_ref()) {
            (None, _) if !self.takes_certificates => (None, None),
            (None, certificate) => (None, Some(still_valid(certificate)?)),
            // A key that is sent counts, even a wrong one, and not the certificate.
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

    /// The caller as the key file has it now, for connections that stay open.
    ///
    /// # Errors
    /// 401: its key was withdrawn, or has expired, or its certificate has. 403: its role has changed.
    pub fn renew(&self, caller: &Caller) -> Result<Caller, Problem> {
        let mut caller = caller.clone();
        if caller.certificate.is_some() {
            still_valid(caller.certificate.as_ref())?;
        }
        if let (Some(keys), Some(key)) = (&self.keys, &caller.key) {
            caller.key = Some(keys.renew(key).map_err(Problem::Denied)?);
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

    /// Checks the page that opens a WebSocket, for which browsers send no preflight: it must be an allowed page, or one
    /// of the host of the request. Without names of this server, keys or certificates, that host must be one that
    /// nobody else's name service can point here.
    ///
    /// # Errors
    /// 403.
    pub fn check_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
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
            let (origin, host) = (truncate(&origin), truncate(&host));
            return Err(Problem::ForeignPage { origin, host });
        }
        // With client certificates TLS has checked the name of this server, and kept a foreign page out.
        let is_guarded = self.hosts.is_some() || self.keys.is_some() || self.takes_certificates;
        match is_guarded || is_beyond_dns(&host) {
            true => Ok(()),
            false => Err(Problem::UnknownHost(truncate(&host))),
        }
    }

    /// The headers of the response to a preflight request; `None` if the request is not one, or without CORS.
    pub fn preflight(&self, request: &HeaderMap) -> Option<HeaderMap> {
        self.cors.as_ref()?.preflight(request)
    }

    /// Lets the page of `origin` read a response, if it may.
    pub fn decorate(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        if let Some(cors) = &self.cors {
            cors.decorate(origin, response);
        }
    }
}

/// The certificate of a connection, if there is one and it is still valid.
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

/// As much of a header as a response repeats.
fn truncate(text: &str) -> String {
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

    /// Checks that the caller may send events of their sites. Pointers number the events if they are an array.
    ///
    /// # Errors
    /// 403, with the events of other sites.
    pub fn authorize(&self, events: &[Event], is_array: bool) -> Result<(), Problem> {
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

    /// Checks that this many events may ever come at once, and spends nothing.
    ///
    /// # Errors
    /// 413.
    pub fn check_burst(&self, count: usize) -> Result<(), Problem> {
        let checked = self.key.as_ref().map(|key| key.check_burst(count));
        checked.unwrap_or(Ok(())).map_err(Problem::RateLimited)
    }

    /// Spends events, or one request, of the caller's rate.
    ///
    /// # Errors
    /// 429, or 413 if it can never be.
    pub fn spend(&self, count: usize) -> Result<Option<RateState>, Problem> {
        let state = self.key.as_ref().map(|key| key.spend(count));
        state.transpose().map(Option::flatten).map_err(Problem::RateLimited)
    }

    /// The reader of reports: all callers with this key, or with this address.
    pub fn reader(&self, holder: Holder) -> Reader {
        match &self.key {
            Some(key) => Reader::Key(key.id().into()),
            None => Reader::Client(holder),
        }
    }

    /// The sites of a report: those that it names, and without any those of the caller; empty means all.
    ///
    /// # Errors
    /// 403, with the other sites that the request names.
    pub fn authorize_report(&self, site_ids: Vec<Uuid>) -> Result<Vec<Uuid>, Problem> {
        let Some(key) = &self.key else {
            return Ok(site_ids);
        };
        let is_foreign = |site_id: &&Uuid| !key.sites().contains(site_id);
        let foreign: Vec<_> = site_ids
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
        Ok(match site_ids.is_empty() {
            true => key.sites().sorted(),
            false => site_ids,
        })
    }
}
