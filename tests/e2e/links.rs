//! Reading in a browser, with a key as the password of Basic; and signed links, for which no key is sent.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::client::{Reply, SITE, events, request};
use crate::keys::{NOWHERE, new_key};
use crate::process::{Process, eventually};
use crate::world::World;

const SECRET: &str = "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHktMDAwMDA=";

/// What a browser sends for a user name and a key as the password.
fn basic(user: &str, bearer: &str) -> String {
    let key = bearer.strip_prefix("Bearer ").unwrap();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{key}")))
}

async fn read(serve: &Process, path: &str, headers: &[(&str, &str)]) -> Reply {
    request(&serve.address, "GET", path, headers, "").await.unwrap()
}

fn challenges(reply: &Reply) -> Vec<&str> {
    let values = reply.headers.get_all("www-authenticate").iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn a_browser_reads_with_a_key_as_its_password_and_sends_nothing() {
    let world = World::new("basic");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let reads = new_key(&world, &file, &["--role", "read", "--sites", SITE]).await;
    let writes = new_key(&world, &file, &["--role", "write", "--sites", "*"]).await;
    let flags = ["--keys-file", file.to_str().unwrap(), "--access-log-share", "1"];
    let serve = world.serve_with(&flags).await;
    let as_password = |key: &str| basic("me", key);

    for user in ["", "me", "j\u{f6}rg"] {
        let authorization = basic(user, &reads);
        let reply = read(&serve, "/v1/report", &[("authorization", &authorization)]).await;
        assert_eq!(reply.status, 200, "{user}: {}", reply.text());
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
    }
    let wrong = format!("{}0", &reads[..reads.len() - 1]).replace("00", "01");
    for (path, authorization, status) in [
        ("/v1/report?period=never", as_password(&reads), 422),
        ("/v1/report", as_password(&writes), 403),
        ("/v1/report", as_password(&wrong), 401),
        ("/v1/report", basic("me", "Bearer captcha_x"), 401),
        ("/v1/report", String::new(), 401),
    ] {
        let reply = read(&serve, path, &[("authorization", &authorization)]).await;
        assert_eq!(reply.status, status, "{path} {authorization}: {}", reply.text());
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        // A script gets no window that asks for a password.
        assert!(
            challenges(&reply)
                .iter()
                .all(|challenge| challenge.starts_with("Bearer "))
        );
        assert_eq!(challenges(&reply).len(), usize::from(status == 401));
    }

    // In the address bar, a browser asks its user.
    let asked = read(&serve, "/v1/dashboard", &[]).await;
    assert_eq!(asked.status, 401);
    let basic_challenge = "Basic realm=\"captcha\", charset=\"UTF-8\"";
    assert_eq!(challenges(&asked), ["Bearer realm=\"captcha\"", basic_challenge]);
    assert_eq!(asked.header("cross-origin-resource-policy"), "same-origin");
    for (authorization, status) in [
        (as_password(&reads), 200),
        (as_password(&wrong), 401),
        (reads.clone(), 200),
    ] {
        let reply = read(&serve, "/v1/dashboard", &[("authorization", &authorization)]).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(challenges(&reply).contains(&basic_challenge), status == 401);
    }
    let foreign = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
    let image = read(&serve, "/v1/dashboard", &foreign).await;
    assert_eq!((image.status.as_u16(), challenges(&image).len()), (401, 1));

    // What a browser adds by itself sends no events.
    let authorization = as_password(&writes);
    let headers = [("content-type", "application/json"), ("authorization", &authorization)];
    let sent = request(&serve.address, "POST", "/v1/events", &headers, events(1).to_string());
    let sent = sent.await.unwrap();
    assert_eq!(sent.status, 401, "{}", sent.text());
    assert!(sent.text().contains("holds no key"), "{}", sent.text());
    let handshake = [
        ("authorization", authorization.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(read(&serve, "/v1/events/stream", &handshake).await.status, 401);
    let bearing = [&[("authorization", writes.as_str())], &handshake[1..]].concat();
    assert_eq!(read(&serve, "/v1/events/stream", &bearing).await.status, 101);

    // IDs are in the log, and no secret, in no spelling.
    let id = reads.split('_').nth(1).unwrap();
    serve.await_said("\"message\":\"request\"").await;
    assert!(serve.logged("request", "key").iter().any(|key| key == id));
    assert!(serve.logged("key refused", "key").iter().any(|key| key == id));
    let said = serve.said();
    for key in [&reads, &writes, &wrong] {
        let secret = key.rsplit('_').next().unwrap();
        let password = as_password(key);
        let encoded = password.strip_prefix("Basic ").unwrap();
        assert!(!said.contains(secret) && !said.contains(encoded), "{said}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_reads_nothing_with_its_visitors_password() {
    let world = World::new("cross_site");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let key = new_key(&world, &file, &["--role", "read", "--sites", "*"]).await;
    let serve = world.serve_with(&["--keys-file", file.to_str().unwrap()]).await;
    let password = basic("me", &key);
    let ask = async |authorization: &str, [site, mode, dest]: [&str; 3]| {
        let headers = [
            ("authorization", authorization),
            ("sec-fetch-site", site),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
        ];
        read(&serve, "/v1/report", &headers).await
    };
    for opened in [
        ["none", "navigate", "document"],
        ["cross-site", "navigate", "document"],
        ["same-origin", "cors", "empty"],
    ] {
        assert_eq!(ask(&password, opened).await.status, 200, "{opened:?}");
    }
    let unknown = basic("me", &format!("Bearer captcha_n0b0dy_{}", "0".repeat(64)));
    let image = ["cross-site", "no-cors", "image"];
    let refused = ask(&password, image).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    // Whether its visitor has a key does not show.
    assert_eq!(ask(&unknown, image).await.text(), refused.text());
    assert_eq!(ask(&password, ["same-site", "navigate", "iframe"]).await.status, 403);
    // A page that has a key itself may send it.
    assert_eq!(ask(&key, ["cross-site", "cors", "empty"]).await.status, 200);
    let counter = "captcha_keys_rejected_total{reason=\"cross_site\"}";
    assert_eq!(serve.metric(counter).await, 3.0);
}

#[tokio::test]
async fn without_keys_every_page_may_embed_a_report() {
    let world = World::new("no_policy");
    world.migrate(&[]).await;
    let serve = world.serve().await;
    let image = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "no-cors"),
        ("authorization", "Basic eDp5"),
    ];
    let reply = read(&serve, "/v1/report", &image).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("cross-origin-resource-policy"), "");
}

async fn new_link(world: &World, words: &[&str]) -> String {
    world.ok(&[&["serve", "new-link"], words].concat()).await
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_link_is_made_without_a_server() {
    let world = World::on("new_link", NOWHERE, NOWHERE);
    let folder = tempfile::tempdir().unwrap();
    let (keys, secrets) = (folder.path().join("keys.txt"), folder.path().join("links.txt"));
    let key = new_key(&world, &keys, &["--role", "read", "--sites", SITE]).await;
    let id = key.split('_').nth(1).unwrap();
    write(&secrets, SECRET);
    let (keys, secrets) = (keys.to_str().unwrap(), secrets.to_str().unwrap());
    let flags = ["--link-secret-file", secrets, "--key", id, "--expires", "90d"];
    let path = new_link(&world, &[&flags[..], &["period=30d"]].concat()).await;
    let begins = format!("/v1/report.svg?period=30d&key={id}&expires=");
    assert!(path.starts_with(&begins) && path.ends_with('\n'), "{path}");
    assert!(!path.contains(SECRET), "{path}");
    let with_base = ["--base-url", "https://captcha.example/", "--keys-file", keys];
    let site = format!("site_id={SITE}");
    let whole = new_link(&world, &[&flags[..], &with_base, &[&site]].concat()).await;
    assert!(
        whole.starts_with("https://captcha.example/v1/report.svg?site_id="),
        "{whole}"
    );

    let other = "site_id=00000000-0000-4000-8000-000000000001";
    let wrong_site = [&["serve", "new-link"], &flags[..], &["--keys-file", keys, other]].concat();
    let refused = world.refused(&wrong_site).await;
    assert!(refused.contains("is not a site of the key"), "{refused}");
    write(Path::new(secrets), "# none\n");
    let refused = world.refused(&[&["serve", "new-link"], &flags[..]].concat()).await;
    assert!(refused.contains("has no secret; `head -c 32"), "{refused}");
    write(Path::new(secrets), "swordfish");
    let refused = world.refused(&[&["serve", "new-link"], &flags[..]].concat()).await;
    assert!(refused.contains("line 1: a secret has at least 32 bytes"), "{refused}");
    assert!(!refused.contains("swordfish"), "{refused}");
}

#[tokio::test]
async fn a_link_shows_its_picture_without_a_key_as_long_as_its_key_may_read() {
    let world = World::new("links");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let (keys, secrets) = (folder.path().join("keys.txt"), folder.path().join("links.txt"));
    let words = ["--role", "read", "--sites", SITE, "--rate", "1000"];
    let key = new_key(&world, &keys, &words).await;
    let id = key.split('_').nth(1).unwrap();
    write(&secrets, SECRET);
    let files = [
        "--keys-file",
        keys.to_str().unwrap(),
        "--link-secret-file",
        secrets.to_str().unwrap(),
    ];
    let serve = world.serve_with(&files).await;
    let make = async |query: &str| {
        let words = [&files[..], &["--key", id, "--expires", "1d", query]].concat();
        new_link(&world, &words).await.trim_end().to_string()
    };
    // As a README of another site embeds it.
    let embedding = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-dest", "image"),
    ];
    let link = make("period=30d&theme=dark").await;
    let badge = make(&format!(
        "badge=solve_rate&period=7d&timezone=Europe/Berlin&site_id={SITE}"
    ))
    .await;
    for path in [
        &link,
        &badge,
        &badge.replace("%2F", "/"),
        &link.replace("/v1/", "/latest/"),
    ] {
        let picture = read(&serve, path, &embedding).await;
        assert_eq!(picture.status, 200, "{path}: {}", picture.text());
        assert_eq!(picture.header("content-type"), "image/svg+xml");
        assert_eq!(picture.header("cross-origin-resource-policy"), "cross-origin");
        assert!(picture.header("ratelimit").starts_with("\"requests\""));
        let head = request(&serve.address, "HEAD", path, &embedding, "").await.unwrap();
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    }
    // What a browser adds makes no difference.
    let unknown = basic("me", &format!("Bearer captcha_n0b0dy_{}", "0".repeat(64)));
    assert_eq!(read(&serve, &link, &[("authorization", &unknown)]).await.status, 200);

    for path in [
        link.replace("30d", "31d"),
        link.replace("theme=dark", "theme=light"),
        link.replace("&theme=dark", ""),
        format!("{link}&interval=day"),
        format!("{link}&theme=dark"),
        link[..link.len() - 1].to_string(),
        badge.replace("solve_rate", "unsolved"),
        badge.replace(SITE, "00000000-0000-4000-8000-000000000001"),
    ] {
        let refused = read(&serve, &path, &embedding).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
        assert!(refused.text().contains("this link is not valid"), "{}", refused.text());
        assert!(challenges(&refused).is_empty());
    }
    assert_eq!(serve.metric("captcha_keys_rejected_total{reason=\"link\"}").await, 8.0);
    assert!(serve.logged("key refused", "key").iter().any(|logged| logged == id));
    // For a picture alone: elsewhere the parameters are unknown, and no key was sent.
    let query = link.split_once('?').unwrap().1;
    for path in ["/v1/report", "/v1/dashboard"] {
        assert_eq!(read(&serve, &format!("{path}?{query}"), &[]).await.status, 401);
    }
    // The picture itself asks for a key, and a page of another site embeds none.
    let asked = read(&serve, "/v1/report.svg?period=30d", &[]).await;
    assert_eq!((asked.status.as_u16(), challenges(&asked).len()), (401, 2));
    let password = basic("me", &key);
    let private = read(&serve, "/v1/report.svg?period=30d", &[("authorization", &password)]).await;
    assert_eq!(private.status, 200, "{}", private.text());
    assert_eq!(private.header("cross-origin-resource-policy"), "same-origin");
    let embedded = [&[("authorization", password.as_str())], &embedding[..]].concat();
    let foreign = read(&serve, "/v1/report.svg?period=30d", &embedded).await;
    assert_eq!(foreign.status, 403);
    assert_eq!(foreign.header("cross-origin-resource-policy"), "same-origin");

    let becomes = async |path: &str, status: u16, said: &str| {
        eventually("the files to be read again", async || {
            let reply = read(&serve, path, &embedding).await;
            let is_so = reply.status == status && reply.text().contains(said);
            is_so.then_some(()).ok_or(reply.text())
        })
        .await;
    };
    // Another secret signs, and the old one verifies until its line is removed.
    let other = SECRET.to_lowercase();
    write(&secrets, &format!("{other}\n{SECRET}\n"));
    serve.await_said("secrets of links read again").await;
    let newer = make("period=30d").await;
    becomes(&newer, 200, "<svg").await;
    becomes(&link, 200, "<svg").await;
    write(&secrets, &other);
    becomes(&link, 403, "this link is not valid").await;
    becomes(&newer, 200, "<svg").await;
    // The key decides.
    let lines = std::fs::read_to_string(&keys).unwrap();
    let narrowed = lines.replace(SITE, "00000000-0000-4000-8000-000000000001");
    write(&secrets, &format!("{other}\n{SECRET}\n"));
    becomes(&badge, 200, "<svg").await;
    write(&keys, &narrowed);
    becomes(&badge, 403, "forbidden site").await;
    becomes(&link, 200, "<svg").await;
    write(&keys, "");
    becomes(&link, 403, "the key of this link was withdrawn").await;
    assert!(!serve.said().contains("signature"));
}

#[tokio::test]
async fn secrets_of_links_are_read_again_and_a_broken_file_changes_nothing() {
    let world = World::on("link_secrets", NOWHERE, NOWHERE);
    let folder = tempfile::tempdir().unwrap();
    let (keys, secrets) = (folder.path().join("keys.txt"), folder.path().join("links.txt"));
    new_key(&world, &keys, &["--role", "read", "--sites", "*"]).await;
    write(&secrets, SECRET);
    let flags = [
        "--keys-file",
        keys.to_str().unwrap(),
        "--link-secret-file",
        secrets.to_str().unwrap(),
    ];
    let serve = world.serve_with(&flags).await;
    let becomes = async |loaded: f64| {
        eventually("the file of secrets to be read again", async || {
            let now = serve.metric("captcha_file_loaded{file=\"link_secrets\"}").await;
            (now == loaded).then_some(()).ok_or(now.to_string())
        })
        .await;
    };
    becomes(1.0).await;
    write(&secrets, "nonsense");
    serve.await_said("the secrets of links cannot be loaded").await;
    becomes(0.0).await;
    write(&secrets, "");
    serve.await_said("there is none, so every link is refused").await;
    becomes(1.0).await;
    assert!(!serve.said().contains("nonsense") && !serve.said().contains(SECRET));

    write(&secrets, "nonsense");
    let start = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    for (flags, code, reason) in [(&flags[..], 1, "line 1: a secret has"), (&flags[2..], 2, "--keys-file")] {
        let output = world.run(&[&start[..], flags].concat()).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(reason) && !stderr.contains("nonsense"), "{stderr}");
    }
}
