//! Client certificates on the public port: who is let in by one, and until when.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::certificates::{Authority, Certified, Valid, text};
use crate::client::events;
use crate::keys::new_key;
use crate::process::{PATIENCE, Process, eventually};
use crate::world::World;

const EVENTS: &str = "/v1/events";
const REPORT: &str = "/v1/report";

/// A connection through TLS, of either version of HTTP.
enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// # Errors
    /// The handshake was refused.
    async fn open(
        serve: &Process,
        server: &Authority,
        client: Option<&Certified>,
        protocol: &str,
    ) -> Result<Connection, String> {
        let stream = tls(serve, server, client, protocol).await?;
        let io = TokioIo::new(stream);
        Ok(if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(|err| err.to_string())?;
            tokio::spawn(connection);
            Connection::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(|err| err.to_string())?;
            tokio::spawn(connection);
            Connection::One(sender)
        })
    }

    /// Sends an event or asks for a report, perhaps with a key; status and text.
    ///
    /// # Errors
    /// The connection is gone. With TLS 1.3 that is how a client learns that its certificate was refused.
    async fn ask(&mut self, path: &str, key: Option<&str>) -> Result<(u16, String), String> {
        let mut request = match path {
            EVENTS => Request::post(format!("https://localhost{path}")).header("content-type", "application/json"),
            _ => Request::get(format!("https://localhost{path}")),
        };
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        let body = match path {
            EVENTS => events(1).to_string(),
            _ => String::new(),
        };
        let request = request.header("host", "localhost");
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answer = match self {
            Connection::One(sender) => {
                sender.ready().await.map_err(|err| err.to_string())?;
                sender.send_request(request).await
            }
            Connection::Two(sender) => sender.send_request(request).await,
        };
        let answer = answer.map_err(|err| err.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await;
        let bytes = body.map_err(|err| err.to_string())?.to_bytes();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A connection through TLS that speaks a protocol.
///
/// # Errors
/// The handshake was refused.
async fn tls(
    serve: &Process,
    server: &Authority,
    client: Option<&Certified>,
    protocol: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(server.file()).unwrap();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match client {
        None => config.with_no_client_auth(),
        Some(certified) => {
            let chain = CertificateDer::pem_file_iter(&certified.certificate).unwrap();
            let key = PrivateKeyDer::from_pem_file(&certified.key).unwrap();
            let chain = chain.map(Result::unwrap).collect();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(&serve.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let connected = connector.connect(name, stream).await;
    connected.map_err(|err| err.to_string())
}

/// A server with TLS that asks for certificates of an authority, and the authority of its own.
async fn serve(world: &World, clients: &Path, more: &[&str]) -> (Process, Authority) {
    let authority = Authority::new();
    let own = authority.server();
    let flags = [
        "--tls-certificate-file",
        text(&own.certificate),
        "--tls-key-file",
        text(&own.key),
        "--tls-client-ca-file",
        text(clients),
    ];
    let serve = world.serve_with(&[&flags[..], more].concat()).await;
    (serve, authority)
}

/// On a connection of its own.
async fn once(
    serve: &Process,
    server: &Authority,
    client: Option<&Certified>,
    path: &str,
) -> Result<(u16, String), String> {
    let mut connection = Connection::open(serve, server, client, "http/1.1").await?;
    connection.ask(path, None).await
}

fn assert_refused(asked: Result<(u16, String), String>, part: &str) {
    let (status, text) = asked.unwrap();
    assert_eq!(status, 401, "{text}");
    assert!(text.contains(part), "{text}");
}

#[tokio::test]
async fn a_certificate_that_the_key_file_names_is_as_good_as_a_key() {
    let world = World::new("certificates");
    world.migrate(&[]).await;
    let (clients, others) = (Authority::new(), Authority::new());
    let shop = clients.certify("shop", &["shop.example"], Valid::Now);
    let mesh = clients.certify("mesh", &["spiffe://example/shop"], Valid::Now);
    let nobody = clients.certify("nobody", &["other.example"], Valid::Now);
    let expired = clients.certify("expired", &["shop.example"], Valid::Past);
    let foreign = others.certify("foreign", &["shop.example"], Valid::Now);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let key = new_key(&world, &file, &["--role", "write", "--sites", "*"]).await;
    let lines = "sh0p write * cert:shop.example\nmesh write * cert:spiffe://example/shop\n\
                 r3ad read * cert:shop.example rate=100\n";
    let mut keys = std::fs::File::options().append(true).open(&file).unwrap();
    keys.write_all(lines.as_bytes()).unwrap();
    let (serve, server) = serve(&world, &clients.file(), &["--keys-file", text(&file)]).await;

    for protocol in ["http/1.1", "h2"] {
        let mut certified = Connection::open(&serve, &server, Some(&shop), protocol).await.unwrap();
        let mut uncertified = Connection::open(&serve, &server, None, protocol).await.unwrap();
        for path in [EVENTS, REPORT] {
            let (status, text) = certified.ask(path, None).await.unwrap();
            assert_eq!(status, 200, "{protocol} {path}: {text}");
            assert_refused(
                uncertified.ask(path, None).await,
                "neither a key nor a client certificate",
            );
        }
        let wrong = format!("Bearer captcha_n0b0dy_{}", "0".repeat(64));
        for connection in [&mut certified, &mut uncertified] {
            let (status, text) = connection.ask(EVENTS, Some(&key)).await.unwrap();
            assert_eq!(status, 200, "{protocol}: {text}");
            // A key that is sent is what counts.
            let (status, _) = connection.ask(EVENTS, Some(&wrong)).await.unwrap();
            assert_eq!(status, 401, "{protocol}");
        }
    }
    let (status, text) = once(&serve, &server, Some(&mesh), EVENTS).await.unwrap();
    assert_eq!(status, 200, "{text}");
    let (status, text) = once(&serve, &server, Some(&mesh), REPORT).await.unwrap();
    assert_eq!(status, 403, "{text}");
    let unknown = "the key file does not name this client certificate";
    assert_refused(once(&serve, &server, Some(&nobody), EVENTS).await, unknown);
    // TLS says no before there is HTTP to answer with.
    for client in [&expired, &foreign] {
        once(&serve, &server, Some(client), EVENTS).await.unwrap_err();
    }

    let stream = tls(&serve, &server, Some(&shop), "http/1.1").await.unwrap();
    let path = format!("wss://localhost{EVENTS}/stream");
    let (mut stream, _) = client_async(path, stream).await.unwrap();
    let mut answer = async || {
        let event = Message::text(events(1).to_string());
        stream.send(event).await.map_err(|err| err.to_string())?;
        let answer = tokio::time::timeout(PATIENCE, stream.next()).await;
        let answer = answer.unwrap().ok_or("an end")?;
        let text = answer.map_err(|err| err.to_string())?.into_text();
        text.map(|text| text.to_string()).map_err(|err| err.to_string())
    };
    let accepted = answer().await.unwrap();
    assert!(accepted.contains("\"status\":\"accepted\""), "{accepted}");

    let mut open = Vec::new();
    for protocol in ["http/1.1", "h2"] {
        let connection = Connection::open(&serve, &server, Some(&shop), protocol).await;
        open.push(connection.unwrap());
    }
    let all = std::fs::read_to_string(&file).unwrap();
    let withdrawn = all.replace("sh0p write * cert:shop.example\n", "");
    std::fs::write(&file, withdrawn.replace("r3ad read", "r3ad write")).unwrap();
    for connection in &mut open {
        eventually("the line to be withdrawn", async || {
            let (status, text) = connection.ask(REPORT, None).await?;
            (status == 403).then_some(()).ok_or(text)
        })
        .await;
    }
    std::fs::write(&file, all.replace("cert:shop.example", "cert:else.example")).unwrap();
    for connection in &mut open {
        eventually("no line to be left", async || {
            let (status, text) = connection.ask(EVENTS, None).await?;
            let is_refused = status == 401 && text.contains(unknown);
            is_refused.then_some(()).ok_or(text)
        })
        .await;
    }
    let refused = answer().await.unwrap();
    assert!(refused.contains("\"status\":401"), "{refused}");
    let refused = "captcha_keys_rejected_total{reason=\"certificate\"}";
    assert!(serve.metric(refused).await >= 3.0);
    serve.await_said("\"certificate\":\"shop.example\"").await;
}

#[tokio::test]
async fn without_keys_a_certificate_is_needed_and_authorities_are_read_again() {
    let world = World::new("certified");
    world.migrate(&[]).await;
    let (first, second) = (Authority::new(), Authority::new());
    let old = first.certify("old", &["shop.example"], Valid::Now);
    let new = second.certify("new", &["shop.example"], Valid::Now);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clients.pem");
    std::fs::copy(first.file(), &file).unwrap();
    let (serve, server) = serve(&world, &file, &[]).await;

    for path in [EVENTS, REPORT, "/v1/"] {
        let (status, text) = once(&serve, &server, Some(&old), path).await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        for client in [None, Some(&new)] {
            once(&serve, &server, client, path).await.unwrap_err();
        }
    }
    let mut open = Connection::open(&serve, &server, Some(&old), "h2").await.unwrap();
    std::fs::write(&file, "nothing").unwrap();
    serve.await_said("holds no certificate").await;
    assert_eq!(open.ask(EVENTS, None).await.unwrap().0, 200);
    std::fs::copy(second.file(), &file).unwrap();
    eventually("the new authority", async || {
        let (status, text) = once(&serve, &server, Some(&new), EVENTS).await?;
        (status == 200).then_some(()).ok_or(text)
    })
    .await;
    once(&serve, &server, Some(&old), EVENTS).await.unwrap_err();
    // A connection that is open is verified again within seconds.
    eventually("the open connection to be refused", async || {
        let (status, text) = open.ask(EVENTS, None).await?;
        let is_refused = status == 401 && text.contains("not valid any more");
        is_refused.then_some(()).ok_or(text)
    })
    .await;
    assert_eq!(open.ask("/v1/", None).await.unwrap().0, 200);
}
