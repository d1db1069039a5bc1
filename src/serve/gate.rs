//! Who may do what: keys where there are any, for the sites that are theirs, at their rates; and which web pages.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use uuid::Uuid;

use super::cors::Cors;
use super::key_refusals::KeyRefusals;
use super::keys::{Key, Keyring, RateState};
use super::problem::{ParameterError, Problem};
use super::reader::Reader;
use crate::event::{ERRORS_MAX, Event, FieldError};
use crate::http::pool::Holder;
use crate::store::Filter;

/// Characters of a header that an answer repeats: the longest name of a host, with a scheme and a port.
const SHOWN_CHARS_MAX: usize = 272;

/// Lets requests in.
pub struct Gate {
    keys: Option<Arc<Keyring>>,
    cors: Option<Cors>,
    refusals: KeyRefusals,
}

/// Who sends a request: a key, or anybody where there are no keys.
#[derive(Clone)]
pub struct Caller(Option<Arc<Key>>);

impl Gate {
    /// Without keys everybody is let in; without CORS no page of another origin.
    pub fn new(keys: Option<Arc<Keyring>>, cors: Option<Cors>, refusals: KeyRefusals) -> Gate {
        Gate {
            keys,
            cors,
            refusals,
        }
    }

    /// Records what is answered to one who was not let in; other problems are left to others.
    pub fn record_refusal(&self, problem: &Problem, key: Option<&str>, address: IpAddr) {
        self.refusals.record(problem, key, address);
    }

    /// Who wants to send events.
    ///
    /// # Errors
    /// 401: nobody that is known. 403: a key that only reads.
    pub fn writer(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let caller = self.caller(headers)?;
        match &caller.0 {
            Some(key) if !key.may_write() => Err(Problem::WrongRole("reads reports")),
            _ => Ok(caller),
        }
    }

    /// Who wants to read a report.
    ///
    /// # Errors
    /// 401: nobody that is known. 403: a key that only sends events.
    pub fn reader(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let caller = self.caller(headers)?;
        match &caller.0 {
            Some(key) if !key.may_read() => Err(Problem::WrongRole("sends events")),
            _ => Ok(caller),
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        match &self.keys {
            None => Ok(Caller(None)),
            Some(keys) => {
                let key = keys.identify(headers).map_err(Problem::Denied)?;
                Ok(Caller(Some(key)))
            }
        }
    }

    /// A caller as the key file has it by now, for connections that stay.
    ///
    /// # Errors
    /// 401: its key was withdrawn, or has expired. 403: its role has changed.
    pub fn renew(&self, caller: &Caller) -> Result<Caller, Problem> {
        let (Some(keys), Some(key)) = (&self.keys, &caller.0) else {
            return Ok(caller.clone());
        };
        let key = keys.renewed(key).map_err(Problem::Denied)?;
        match key.may_write() {
            true => Ok(Caller(Some(key))),
            false => Err(Problem::WrongRole("reads reports")),
        }
    }

    /// Lets a WebSocket in, for which browsers do not ask first: of a page it has to be ours or an allowed one.
    ///
    /// # Errors
    /// 403.
    pub fn admit_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let host = headers.get(HOST);
        let is_ours = || {
            let authority = origin.to_str().ok()?.split_once("://")?.1;
            Some(authority.eq_ignore_ascii_case(host?.to_str().ok()?))
        };
        let is_allowed = self.cors.as_ref().is_some_and(|cors| cors.allows(origin));
        if is_allowed || is_ours() == Some(true) {
            return Ok(());
        }
        let shown = |value: &HeaderValue| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().take(SHOWN_CHARS_MAX).collect()
        };
        Err(Problem::ForeignPage {
            origin: shown(origin),
            host: host.map(shown).unwrap_or_default(),
        })
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

impl Caller {
    /// The ID of its key.
    pub fn key_id(&self) -> Option<&str> {
        self.0.as_ref().map(|key| key.id())
    }

    /// Checks that all events, of an array or lines or one alone, are of sites that are the caller's.
    ///
    /// # Errors
    /// 403, with the events that are not.
    pub fn check(&self, events: &[Event], is_array: bool) -> Result<(), Problem> {
        let Some(key) = &self.0 else {
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
        let checked = self.0.as_ref().map(|key| key.check_burst(count));
        checked.unwrap_or(Ok(())).map_err(Problem::RateLimited)
    }

    /// Takes events, or one request, of the caller's rate.
    ///
    /// # Errors
    /// 429, or 413 if it can never be.
    pub fn take(&self, count: usize) -> Result<Option<RateState>, Problem> {
        let taken = self.0.as_ref().map(|key| key.take(count));
        taken
            .transpose()
            .map(Option::flatten)
            .map_err(Problem::RateLimited)
    }

    /// With whom it shares its part of the reports: all that have its key, or its address.
    pub fn reader(&self, holder: Holder) -> Reader {
        match &self.0 {
            Some(key) => Reader::Key(key.id().into()),
            None => Reader::Client(holder),
        }
    }

    /// Narrows a report to the sites that are the caller's.
    ///
    /// # Errors
    /// 403, with the sites that were asked for and are not.
    pub fn narrow(&self, mut filter: Filter) -> Result<Filter, Problem> {
        let Some(key) = &self.0 else {
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
