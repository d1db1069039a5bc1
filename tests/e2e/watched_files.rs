//! A pipe, a folder or a gigabyte in the place of a file that is read: nothing waits for it for ever, and a good file that
//! comes back is taken.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::certificates::{Authority, Certified, text};
use crate::client::{events, request};
use crate::keys::new_key;
use crate::process::{PATIENCE, Process, eventually};
use crate::world::World;

const NOWHERE: &str = "127.0.0.1:1";

/// Makes something in the place of a file.
type Make = fn(&Path);

/// What may be there, and the reason that names it.
const OTHERS: [(Make, &str); 3] = [
    (make_pipe, "not a regular file but a pipe"),
    (make_folder, "not a regular file but a folder"),
    (make_huge, "1073741824 bytes, and at most 1048576 are read"),
];

fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn make_folder(path: &Path) {
    fs::create_dir(path).unwrap();
}

/// A gigabyte that takes no room.
fn make_huge(path: &Path) {
    File::create(path).unwrap().set_len(1 << 30).unwrap();
}

/// Takes away what is there, in one step.
fn remove(path: &Path) {
    match path.is_dir() {
        true => fs::remove_dir(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    }
}

async fn await_metric(serve: &Process, name: &str, value: f64) {
    eventually(&format!("{name} {value}"), async || {
        let now = serve.metric(name).await;
        (now == value).then_some(()).ok_or(now.to_string())
    })
    .await;
}

#[tokio::test]
async fn no_process_waits_at_the_start_for_a_pipe() {
    let world = World::on("no_file", NOWHERE, NOWHERE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it");
    let authority = Authority::new();
    let good = authority.server();
    let (certificate, key) = (text(&good.certificate), text(&good.key));
    let it = text(&path);
    for (make, said) in OTHERS {
        make(&path);
        for flags in [
            &["serve", "--keys-file", it][..],
            &["serve", "--tls-certificate-file", it, "--tls-key-file", key],
            &["serve", "--tls-certificate-file", certificate, "--tls-key-file", it],
            &["consume", "--kafka-tls", "--kafka-ca-file", it],
            &["report", "--clickhouse-tls", "--clickhouse-ca-file", it],
            &["report", "--clickhouse-password-file", it],
            &["report", "--webhook-url-file", it],
            &[
                "serve",
                "new-link",
                "--link-secret-file",
                it,
                "--key",
                "r3ad",
                "--expires",
                "1d",
            ],
        ] {
            let line = world.refused(flags).await;
            assert!(line.contains(it) && line.contains(said), "{flags:?}: {line}");
        }
        let mut command = world.command(&["consume", "--kafka-tls"]);
        command.env("SSL_CERT_FILE", it);
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains(it) && line.contains(said), "SSL_CERT_FILE: {line}");
        remove(&path);
    }
}

#[tokio::test]
async fn a_key_file_that_comes_back_is_taken_and_what_it_withdraws_is_refused() {
    let world = World::new("keys_back");
    world.migrate(&["--partitions", "1"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", "*"];
    let first = new_key(&world, &path, &words).await;
    let line_of_first = fs::read_to_string(&path).unwrap();
    let serve = world.serve_with(&["--keys-file", text(&path)]).await;
    let send = async |key: &str| {
        let headers = [("content-type", "application/json"), ("authorization", key)];
        let body = events(1).to_string();
        let sent = request(&serve.address, "POST", "/v1/events", &headers, body).await;
        sent.unwrap().status.as_u16()
    };
    assert_eq!(send(&first).await, 200);
    for (make, said) in OTHERS {
        remove(&path);
        make(&path);
        serve.await_said(said).await;
        await_metric(&serve, "captcha_file_loaded{file=\"keys\"}", 0.0).await;
        assert_eq!(send(&first).await, 200);
        remove(&path);
        fs::write(&path, &line_of_first).unwrap();
        await_metric(&serve, "captcha_file_loaded{file=\"keys\"}", 1.0).await;
    }
    let said = serve.said();
    assert_eq!(said.matches("but a pipe").count(), 1, "{said}");
    let read = "captcha_file_read_timestamp_seconds{file=\"keys\"}";
    let before = serve.metric(read).await;
    assert!(before > 1.7e9, "{before}");
    eventually("the file to be read again", async || {
        let now = serve.metric(read).await;
        (now > before).then_some(()).ok_or(now.to_string())
    })
    .await;
    fs::write(&path, "# withdrawn\n").unwrap();
    eventually("the withdrawn key to be refused", async || {
        let status = send(&first).await;
        (status == 401).then_some(()).ok_or(status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_comes_back_is_taken() {
    let world = World::on("certificate_back", NOWHERE, NOWHERE);
    let authority = Authority::new();
    let one = authority.server();
    let serve = world
        .serve_with(&[
            "--tls-certificate-file",
            text(&one.certificate),
            "--tls-key-file",
            text(&one.key),
        ])
        .await;
    let taken = "captcha_file_loaded{file=\"certificate\"}";
    let in_force = || serve.logged("a new certificate is in force", "file").len();
    for (round, (make, said)) in OTHERS.into_iter().enumerate() {
        let place = [&one.certificate, &one.key][round % 2];
        remove(place);
        make(place);
        serve.await_said(said).await;
        await_metric(&serve, taken, 0.0).await;
        remove(place);
        let next: Certified = authority.certify("next", &["localhost"], crate::certificates::Valid::Now);
        next.replace(&one);
        await_metric(&serve, taken, 1.0).await;
        assert_eq!(in_force(), round + 1, "{}", serve.said());
    }
}
