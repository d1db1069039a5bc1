//! The dashboard and pictures over HTTP. `tests/documents/dashboard.py` looks at them in a browser.

use serde_json::{Value, json};

use crate::client::{Reply, SITE, accept, request};
use crate::complete_through::{await_complete_through, now};
use crate::keys::new_key;
use crate::process::{Process, eventually};
use crate::world::World;

const OTHER: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a09";

async fn ask(serve: &Process, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    request(&serve.address, method, path, headers, "").await.unwrap()
}

async fn page(serve: &Process, path: &str) -> String {
    let reply = ask(serve, "GET", path, &[]).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    reply.text()
}

/// Challenges that were shown at this time, and those of them that were solved 4 seconds later.
fn challenges(site: &str, time: &str, shown: usize, solved: usize) -> Value {
    let of = |number: usize| {
        let id = uuid::Uuid::new_v4();
        let event = move |kind: &str, second: usize| json!({"site_id": site, "type": kind, "correlation_id": id, "time": format!("{time}:{second:02}")});
        let solve = (number < solved).then(|| event("solve", 14));
        [event("serve", 10)].into_iter().chain(solve).collect::<Vec<_>>()
    };
    (0..shown).flat_map(of).collect()
}

/// What a tile of the page has for programs.
fn tile(page: &str, metric: &str) -> String {
    let begin = format!("data-metric=\"{metric}\"");
    let tile = page.split(&begin).nth(1).expect(page);
    let value = tile.split("<data value=\"").nth(1).expect(tile);
    value.split('"').next().unwrap().to_string()
}

#[tokio::test]
async fn the_page_has_the_numbers_of_the_report() {
    let world = World::new("dashboard");
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("sites.txt");
    std::fs::write(&names, format!("{SITE} The <b>\"shop\"</b>\n")).unwrap();
    world.migrate(&[]).await;
    let _consume = world.consume(&[]).await;
    let serve = world.serve_with(&["--sites-file", names.to_str().unwrap()]).await;
    let empty = page(&serve, "/v1/dashboard").await;
    assert!(
        empty.contains("No events yet") && empty.contains("/v1/events"),
        "{empty}"
    );

    accept(&serve.address, &challenges(SITE, "2024-02-27T12:00", 5, 4)).await;
    accept(&serve.address, &challenges(OTHER, "2024-02-28T12:00", 3, 1)).await;
    let sent = now(&world).await;
    await_complete_through(&world, sent).await;

    let old = page(&serve, "/v1/dashboard?from=2020-01-01&to=2020-02-01").await;
    assert!(old.contains("The newest day with events is"), "{old}");
    assert!(old.contains("?from=2024-02-28&amp;to=2024-02-29"), "{old}");

    let range = "from=2024-02-20&to=2024-03-01";
    let all = page(&serve, &format!("/v1/dashboard?{range}")).await;
    let metrics = "challenges,solved_of_served,unsolved,solve_rate,solve_time_p50";
    let report = format!("/v1/report?{range}&by=none&interval=all&metrics={metrics}");
    let report = ask(&serve, "GET", &report, &[]).await.json();
    for metric in ["challenges", "unsolved", "solve_rate", "solve_time_p50"] {
        assert_eq!(tile(&all, metric), report["totals"][metric].to_string(), "{metric}");
    }
    assert_eq!(tile(&all, "challenges"), "8");
    assert!(
        all.contains("The &lt;b&gt;&quot;shop&quot;&lt;/b&gt;") && !all.contains("<b>\"shop"),
        "{all}"
    );
    let one = page(
        &serve,
        &format!("/v1/dashboard/?{range}&site_id={OTHER}&timezone=Asia/Kathmandu"),
    )
    .await;
    assert_eq!(tile(&one, "challenges"), "3");
    assert!(one.contains("href=\"../dashboard.css\""), "{one}");

    // Names that change are read again.
    std::fs::write(&names, format!("{SITE} Kiosk\n{OTHER} Blog\n")).unwrap();
    eventually("the new names are shown", async || {
        let all = page(&serve, &format!("/v1/dashboard?{range}")).await;
        let is_shown = all.contains("Kiosk") && all.contains("Blog") && !all.contains("shop");
        is_shown.then_some(()).ok_or(all)
    })
    .await;
}

#[tokio::test]
async fn the_address_of_a_page_is_short_and_its_errors_are_pages() {
    let world = World::new("dashboard_addresses");
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("sites.txt");
    std::fs::write(&names, format!("{SITE} Shop\n{OTHER} Shop of old\n")).unwrap();
    world.migrate(&[]).await;
    let serve = world.serve_with(&["--sites-file", names.to_str().unwrap()]).await;
    for (path, location) in [
        (
            "/v1/dashboard?site=&period=28d&timezone=UTC&from=&to=&interval=",
            "?".to_string(),
        ),
        (
            "/v1/dashboard?site=shop&period=7d",
            format!("?period=7d&site_id={SITE}"),
        ),
        ("/v1/dashboard?site=old", format!("?site_id={OTHER}")),
        (
            "/v1/dashboard?period=7d&from=2024-01-01&to=",
            "?from=2024-01-01".to_string(),
        ),
    ] {
        let reply = ask(&serve, "GET", path, &[]).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("location")),
            (303, location.as_str()),
            "{path}"
        );
    }
    let several = page(&serve, "/v1/dashboard?site=sho&period=7d").await;
    assert!(several.contains("Several sites fit"), "{several}");
    let refreshed = ask(&serve, "GET", "/v1/dashboard?refresh=30", &[]).await;
    assert_eq!(refreshed.header("refresh"), "30");
    for (query, named) in [
        ("period=9d&sort=x&nothing=1", &["period", "sort", "nothing"][..]),
        ("from=2024-02-01&to=2024-01-01", &["from"]),
        ("period=7d&period=28d", &["period"]),
    ] {
        let reply = ask(&serve, "GET", &format!("/v1/dashboard?{query}"), &[]).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("content-type")),
            (422, "text/html; charset=utf-8")
        );
        for name in named {
            assert!(
                reply.text().contains(&format!("<code>{name}</code>")),
                "{query}: {}",
                reply.text()
            );
        }
    }
    let posted = ask(&serve, "POST", "/v1/dashboard", &[]).await;
    assert_eq!(
        (posted.status.as_u16(), posted.header("allow")),
        (405, "GET, HEAD, OPTIONS")
    );
    let head = ask(&serve, "HEAD", "/v1/dashboard", &[]).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert!(
        head.header("content-security-policy")
            .starts_with("default-src 'none'; style-src 'self'")
    );
}

#[tokio::test]
async fn a_page_and_a_picture_show_the_sites_of_the_key() {
    let world = World::new("dashboard_keys");
    let folder = tempfile::tempdir().unwrap();
    let (names, keys) = (folder.path().join("sites.txt"), folder.path().join("keys.txt"));
    std::fs::write(&names, format!("{SITE} Shop\n{OTHER} Rival\n")).unwrap();
    let reads = new_key(&world, &keys, &["--role", "read", "--sites", SITE]).await;
    let writes = new_key(&world, &keys, &["--role", "write", "--sites", "*"]).await;
    world.migrate(&[]).await;
    let _consume = world.consume(&[]).await;
    let flags = [
        "--sites-file",
        names.to_str().unwrap(),
        "--keys-file",
        keys.to_str().unwrap(),
    ];
    let serve = world.serve_with(&flags).await;
    let events = [
        challenges(SITE, "2024-02-27T12:00", 2, 1),
        challenges(OTHER, "2024-02-27T12:00", 50, 9),
    ];
    for events in events {
        let body = events.to_string();
        let headers = [("authorization", writes.as_str()), ("content-type", "application/json")];
        let reply = request(&serve.address, "POST", "/v1/events", &headers, body.clone())
            .await
            .unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    await_complete_through(&world, now(&world).await).await;

    let authorization = [("authorization", reads.as_str())];
    let range = "from=2024-02-20&to=2024-03-01";
    let shown = ask(&serve, "GET", &format!("/v1/dashboard?{range}"), &authorization)
        .await
        .text();
    assert_eq!(tile(&shown, "challenges"), "2");
    assert!(
        shown.contains("Shop") && !shown.contains("Rival") && !shown.contains(OTHER),
        "{shown}"
    );
    for path in [
        format!("/v1/dashboard?{range}&site_id={OTHER}"),
        format!("/v1/report.svg?{range}&site_id={OTHER}"),
    ] {
        let reply = ask(&serve, "GET", &path, &authorization).await;
        assert!(
            reply.status == 403 && !reply.text().contains("Rival"),
            "{path}: {}",
            reply.text()
        );
    }
    let sought = ask(&serve, "GET", "/v1/dashboard?site=rival", &authorization)
        .await
        .text();
    assert!(sought.contains("No site matches"), "{sought}");

    let picture = ask(&serve, "GET", &format!("/v1/report.svg?{range}"), &authorization).await;
    assert_eq!(picture.header("content-type"), "image/svg+xml");
    assert_eq!(picture.header("cache-control"), "private, no-cache");
    assert!(
        picture.text().contains("challenges: 2, solve rate: 50.0%"),
        "{}",
        picture.text()
    );
    let tag = picture.header("etag").to_string();
    let badge = ask(
        &serve,
        "GET",
        &format!("/v1/report.svg?{range}&badge=challenges"),
        &authorization,
    )
    .await;
    assert!(
        badge.text().contains("<title id=\"title\">challenges: 2, "),
        "{}",
        badge.text()
    );
    // The picture says how far it is complete, so it is the same only until that changes.
    let known = [authorization[0], ("if-none-match", &tag)];
    let again = ask(
        &serve,
        "GET",
        &format!("/v1/report.svg?{range}&badge=challenges"),
        &known,
    )
    .await;
    assert_eq!(again.status, 200);
    let known = [authorization[0], ("if-none-match", badge.header("etag"))];
    let same = ask(
        &serve,
        "GET",
        &format!("/v1/report.svg?{range}&badge=challenges"),
        &known,
    )
    .await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
}
