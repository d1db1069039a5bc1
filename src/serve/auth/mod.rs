//! Authentication and authorization: keys, client certificates and signed links, their sites and rates, hosts, and web
//! pages.

pub mod cors;
mod fetch_metadata;
pub mod hosts;
pub mod keys;
pub mod links;
mod rejections;

use std::net::IpAddr;
use std::sync::Arc;

use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use uuid::Uuid;

use self::cors::Cors;
use self::hosts::{Hosts, is_beyond_dns};
use self::keys::{Denied, Key, Keyring, RateState, Role, Schemes, authorization};
use self::links::{Link, LinkRefusal, LinkSecrets, SignedLink};
pub use self::rejections::KeyRejections;
use super::problem::{ParameterError, Problem};
use super::report::reader::Reader;
use crate::event::{ERRORS_MAX, Event, FieldError};
use crate::http::{ClientCertificate, Peer};
use crate::resource_pool::Holder;

/// Characters of a header that a response repeats: the longest name of a host, with a scheme and a port.
const SHOWN_CHARS_MAX: usize = 272;

/// Which pages may embed a response, or load it as a script (Fetch standard).
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Decides which requests are let in.
pub struct Auth {
    keys: Option<Arc<Keyring>>,
    /// Whether clients may show a certificate.
    takes_certificates: bool,
    /// `None` refuses every link.
    links: Option<LinkSecrets>,
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

/// The reader of a picture.
pub struct PictureCaller {
    pub caller: Caller,
    /// The parameters of the picture, without those that make a link of them.
    pub query: String,
    /// Whether every page may embed it: it was asked for by a link, or everybody may read.
    pub is_public: bool,
}

impl Auth {
    /// Without keys everybody is let in, or everybody with a certificate if those are taken; without secrets of links
    /// no link; without CORS no page of another origin; without hosts requests for any.
    pub fn new(
        keys: Option<Arc<Keyring>>,
        takes_certificates: bool,
        links: Option<LinkSecrets>,
        cors: Option<Cors>,
        hosts: Option<Hosts>,
        rejections: KeyRejections,
    ) -> Auth {
        Auth {
            keys,
            takes_certificates,
            links,
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

    /// The caller of a request that needs a role. A key comes as a bearer token: what a browser adds to a request by
    /// itself never sends events.
    ///
    /// # Errors
    /// 401: no valid key or certificate. 403: a key of the other role.
    pub fn authenticate(&self, role: Role, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Problem> {
        self.identify(role, headers, Schemes::Bearer, peer)
    }

    /// The caller of a request that reads: also from the address bar of a browser, with a read key as the password of
    /// Basic. Another site's page gets nothing with the password or the certificate that its visitor's browser adds.
    ///
    /// # Errors
    /// As [`Auth::authenticate`]; and 403 for such a page.
    pub fn authenticate_reader(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Problem> {
        let is_added_by_browser = match headers.get(AUTHORIZATION) {
            Some(authorization) if self.keys.is_some() => authorization::is_basic(authorization),
            _ => peer.certificate.is_some(),
        };
        // Before the key is looked at, so that such a page cannot learn whether it is valid.
        if is_added_by_browser && fetch_metadata::is_part_of_foreign_page(headers) {
            return Err(Problem::CrossSite);
        }
        self.identify(Role::Read, headers, Schemes::BearerAndBasic, peer)
    }

    /// The reader of a picture: by a signed link, or as [`Auth::authenticate_reader`]. A link counts, and nothing else that
    /// the request has, so that everybody sees the same. Without keys links are not needed, and their parameters unknown.
    ///
    /// # Errors
    /// As [`Auth::authenticate_reader`]. 403: the link is not valid, or its key is not.
    pub fn authenticate_picture(
        &self,
        headers: &HeaderMap,
        query: &str,
        peer: &Peer,
    ) -> Result<PictureCaller, Problem> {
        if let Some(keys) = &self.keys
            && let Some(link) = Link::parse(query)
        {
            return self.identify_link(link, keys);
        }
        Ok(PictureCaller {
            caller: self.authenticate_reader(headers, peer)?,
            query: query.to_string(),
            is_public: self.is_open(),
        })
    }

    fn identify_link(&self, link: Result<SignedLink, LinkRefusal>, keys: &Keyring) -> Result<PictureCaller, Problem> {
        let secrets = self.links.as_ref().ok_or(LinkRefusal::NotTaken);
        let link = secrets.and_then(|secrets| secrets.verify(link?));
        let link = link.map_err(Problem::LinkRefused)?;
        let key = keys.find(link.key()).map_err(LinkRefusal::Key);
        let key = key.map_err(Problem::LinkRefused)?;
        check_role(Some(&key), Role::Read)?;
        Ok(PictureCaller {
            caller: Caller {
                key: Some(key),
                certificate: None,
            },
            query: link.picture_query(),
            is_public: true,
        })
    }

    /// Whether everybody who reaches this server may read.
    fn is_open(&self) -> bool {
        self.keys.is_none() && !self.takes_certificates
    }

    /// Lets a browser ask its user for a key, if `problem` is a 401 that a key helps against: for what people open in
    /// the address bar. Scripts get no such window, nor do pictures in another site's page.
    pub fn offer_basic(&self, problem: Problem, headers: &HeaderMap) -> Problem {
        match problem {
            Problem::Denied(denied) if self.keys.is_some() && !fetch_metadata::is_part_of_foreign_page(headers) => {
                Problem::SignIn(denied)
            }
            problem => problem,
        }
    }

    /// Keeps pages of other origins from embedding a response, unless everybody may read it or the response has a
    /// policy of its own. Errors too: a page would learn from them what its visitor may read.
    pub fn isolate(&self, response: &mut HeaderMap) {
        if !self.is_open() {
            let policy = response.entry(CROSS_ORIGIN_RESOURCE_POLICY);
            policy.or_insert(HeaderValue::from_static("same-origin"));
        }
    }

    fn identify(&self, role: Role, headers: &HeaderMap, schemes: Schemes, peer: &Peer) -> Result<Caller, Problem> {
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
                let key = keys.identify(headers, schemes).map_err(|denied| self.denied(denied));
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

/// The ID of the key that a request claims to have, or whose link it claims to be if its path takes links.
pub fn claimed_id(request: &Request<()>, takes_links: bool) -> Option<String> {
    let link = request
        .uri()
        .query()
        .filter(|_| takes_links)
        .and_then(links::claimed_id);
    let authorization = request.headers().get(AUTHORIZATION);
    link.or_else(|| authorization.and_then(authorization::claimed_id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::keys::{Expiry, RateShare};
    use prometheus_client::registry::Registry;

    const SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";
    const SECRET: &str = "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHktMDAwMDA=";

    /// With a key file of these lines, and perhaps the secret of links.
    fn auth(lines: &str, has_secret: bool) -> Auth {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, lines.replace("HASH", &format!("sha256:{}", "0".repeat(64)))).unwrap();
        let keys = Keyring::open(path, RateShare::parse("1/1").unwrap()).unwrap();
        let links = has_secret.then(|| LinkSecrets::of(SECRET));
        let rejections = KeyRejections::register(&mut Registry::default());
        Auth::new(Some(Arc::new(keys)), false, links, None, None, rejections)
    }

    fn link(expires: &str) -> String {
        let parameters = vec![("period".to_string(), "30d".to_string())];
        let link = Link::new(parameters, "r3ad".to_string(), Expiry::parse(expires).unwrap());
        LinkSecrets::of(SECRET).sign(&link)
    }

    fn open(auth: &Auth, query: &str) -> Result<PictureCaller, String> {
        let link = Link::parse(query).unwrap();
        let opened = auth.identify_link(link, auth.keys.as_ref().unwrap());
        opened.map_err(|problem| {
            let row = problem.row();
            assert_eq!((row.status.as_u16(), row.headers.len()), (403, 0));
            row.detail
        })
    }

    #[test]
    fn a_link_has_the_rights_that_its_key_has_now() {
        let link = link("2200-01-01");
        let reader = open(&auth(&format!("r3ad read {SITE} HASH rate=1 burst=1"), true), &link)
            .ok()
            .unwrap();
        assert_eq!((reader.query.as_str(), reader.is_public), ("period=30d", true));
        assert_eq!(reader.caller.key_id(), Some("r3ad"));
        let sites = reader.caller.authorize_report(Vec::new()).ok().unwrap();
        assert_eq!(sites, [SITE.parse::<Uuid>().unwrap()]);
        assert!(reader.caller.authorize_report(vec![Uuid::nil()]).is_err());
        assert!(reader.caller.spend(1).is_ok() && reader.caller.spend(1).is_err());
        for (lines, reason) in [
            ("", "the key of this link was withdrawn"),
            ("other read * HASH", "the key of this link was withdrawn"),
            (
                "r3ad read * HASH expires=2020-01-31",
                "the key of this link expired at 2020-01-31",
            ),
            ("r3ad write * HASH", "this key sends events"),
        ] {
            let refusal = open(&auth(lines, true), &link).err().unwrap();
            assert!(refusal.starts_with(reason), "{lines}: {refusal}");
        }
    }

    #[test]
    fn a_link_that_is_not_valid_tells_nothing_about_its_key() {
        let with_key = auth("r3ad read * HASH", true);
        let expired = open(&with_key, &link("2020-01-31")).err().unwrap();
        assert!(expired.starts_with("this link expired at 2020-01-31"), "{expired}");
        let not_taken = open(&auth("r3ad read * HASH", false), &link("2200-01-01"))
            .err()
            .unwrap();
        assert!(not_taken.contains("--link-secret-file"), "{not_taken}");
        let good = link("2200-01-01");
        for forged in [
            good.replace("30d", "31d"),
            link("2020-01-31").replace("2020", "2200"),
            good.replace("r3ad", "0000"),
            "signature=".to_string(),
        ] {
            let refusals = [&with_key, &auth("", true)].map(|auth| open(auth, &forged).err().unwrap());
            assert!(refusals[0].starts_with("this link is not valid"), "{refusals:?}");
            assert_eq!(refusals[0], refusals[1]);
        }
    }

    #[test]
    fn a_browser_asks_where_a_key_would_help() {
        let keys = auth("r3ad read * HASH", false);
        let open = Auth {
            keys: None,
            ..auth("", false)
        };
        let challenges = |auth: &Auth, headers: &HeaderMap| {
            let row = auth.offer_basic(Problem::Denied(Denied::Missing), headers).row();
            let challenges = row.headers.get_all("www-authenticate").iter();
            challenges
                .map(|value| value.to_str().unwrap().to_string())
                .collect::<Vec<_>>()
        };
        let (bearer, basic) = ("Bearer realm=\"captcha\"", "Basic realm=\"captcha\", charset=\"UTF-8\"");
        assert_eq!(challenges(&keys, &HeaderMap::new()), [bearer, basic]);
        assert_eq!(challenges(&open, &HeaderMap::new()), [bearer]);
        let mut foreign = HeaderMap::new();
        foreign.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        foreign.insert("sec-fetch-mode", HeaderValue::from_static("no-cors"));
        assert_eq!(challenges(&keys, &foreign), [bearer]);
        let other = keys.offer_basic(Problem::NotFound, &HeaderMap::new());
        assert!(matches!(other, Problem::NotFound));
    }

    #[test]
    fn a_response_that_needs_a_key_is_of_its_own_origin_unless_it_has_a_policy() {
        let isolated = |auth: &Auth, mut headers: HeaderMap| {
            auth.isolate(&mut headers);
            headers.remove(CROSS_ORIGIN_RESOURCE_POLICY)
        };
        let keys = auth("", false);
        assert_eq!(isolated(&keys, HeaderMap::new()).unwrap(), "same-origin");
        let public = HeaderMap::from_iter([(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"))]);
        assert_eq!(isolated(&keys, public).unwrap(), "cross-origin");
        let certificates = Auth {
            keys: None,
            takes_certificates: true,
            ..auth("", false)
        };
        assert_eq!(isolated(&certificates, HeaderMap::new()).unwrap(), "same-origin");
        let open = Auth {
            keys: None,
            ..auth("", false)
        };
        assert_eq!(isolated(&open, HeaderMap::new()), None);
    }
}
