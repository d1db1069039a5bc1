//! The log of a server whose clients mean harm: no secret, no name that they made up, and few lines.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::certificates::{Authority, text};
use crate::client::get;
use crate::process::{Process, eventually};
use crate::world::World;

const NOWHERE: &str = "127.0.0.1:1";

#[tokio::test]
async fn a_key_in_a_path_is_not_in_the_log() {
    let world = World::on("key_in_path", NOWHERE, NOWHERE);
    let serve = world.serve_with(&["--access-log-share", "1"]).await;
    let secret = "0123456789abcdef".repeat(4);
    let cut = format!("/{}/captcha_k3y4_{secret}", "x".repeat(200));
    let paths = [
        format!("/v1/report/captcha_k3y1_{secret}"),
        format!("/captcha%5Fk3y2%5f{secret}/x"),
        format!("/%63aptcha_k3y3_%30{}", &secret[1..]),
        cut,
    ];
    for path in &paths {
        assert_eq!(get(&serve.address, path).await.status, 404, "{path}");
    }
    let logged = eventually("a line for each request", async || {
        let logged = serve.logged("request", "path");
        (logged.len() == paths.len())
            .then_some(logged.clone())
            .ok_or(format!("{logged:?}"))
    })
    .await;
    assert_eq!(logged[0], "/v1/report/captcha_k3y1_***");
    assert_eq!(logged[1], "/captcha%5Fk3y2%5f***/x");
    assert_eq!(logged[2], "/%63aptcha_k3y3_***");
    assert!(logged[3].ends_with("/captcha_k3y4_***"), "{}", logged[3]);
    assert!(!serve.said().contains("0123456789"), "{}", serve.said());
}

#[tokio::test]
async fn a_key_in_the_place_of_a_setting_is_not_in_an_error() {
    let world = World::on("key_as_setting", NOWHERE, NOWHERE);
    let secret = "0123456789abcdef".repeat(4);
    let key = format!("captcha_k3y1_{secret}");
    let line = world.refused(&["serve", "--keys-file", &key]).await;
    assert!(line.contains("captcha_k3y1_***") && !line.contains(&secret), "{line}");
    let usage = world.run(&["serve", "--listen", &key]).await;
    let stderr = String::from_utf8(usage.stderr).unwrap();
    assert!(
        stderr.contains("captcha_k3y1_***") && !stderr.contains(&secret),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_name_that_a_tls_client_asks_for_is_not_in_the_log() {
    let world = World::on("sni", NOWHERE, NOWHERE);
    let authority = Authority::new();
    let certified = authority.server();
    let flags = [
        "--tls-certificate-file",
        text(&certified.certificate),
        "--tls-key-file",
        text(&certified.key),
    ];
    let serve = world.serve_with(&flags).await;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("a.made-up.example").unwrap();
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    // The same length, and not a name.
    let at = hello.windows(9).position(|part| part == b"a.made-up").unwrap();
    hello[at + 1] = b' ';
    for _ in 0..100 {
        let mut stream = TcpStream::connect(&serve.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; 64];
        assert!(stream.read(&mut answer).await.unwrap() > 0, "no answer to a hello");
    }
    let said = serve.said();
    assert!(!said.contains("made-up"), "{said}");
    assert!(said.lines().count() < 20, "{said}");
}

/// Where nobody needs root.
const NOBODY: u32 = 65_532;

#[tokio::test]
async fn root_is_warned_of_once_where_it_serves_or_consumes() {
    const WARNING: &str = "runs as root";
    let world = World::on("root", NOWHERE, NOWHERE);
    let is_root = rustix::process::geteuid().is_root();
    let warnings = |said: &str| said.matches(WARNING).count();
    let serve = world.serve().await;
    let consume = world.consume(&[]).await;
    for process in [&serve, &consume] {
        // It comes after the line that says that the process listens.
        if is_root {
            process.await_said(WARNING).await;
        }
        let said = process.said();
        assert_eq!(warnings(&said), usize::from(is_root), "{said}");
    }
    for command in [&["report"][..], &["migrate"], &["migrate", "--status"]] {
        let line = world.refused(command).await;
        assert_eq!(warnings(&line), 0, "{line}");
    }
    if !is_root {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let executable = folder.path().join("captcha");
    // By a process of its own: a child that another test starts meanwhile would hold our copy open, and a file that is
    // open for writing does not run.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_captcha"))
        .arg(&executable)
        .status();
    assert!(copied.unwrap().success());
    let open_to_all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open_to_all).unwrap();
    let mut command = Command::new(&executable);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut serve = Process::start(command, log.path().to_path_buf());
    serve.await_addresses("serving").await;
    assert_eq!(warnings(&serve.said()), 0, "{}", serve.said());
}
