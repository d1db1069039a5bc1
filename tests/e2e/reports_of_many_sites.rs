//! Reports of many sites: as many as a key may have, and more, up to a limit that says its name.

use uuid::Uuid;

use crate::client::{SITE, accept, event, request};
use crate::keys::new_key;
use crate::world::{World, counters};

/// Sites of one key at most, and of one report.
const SITES_OF_A_KEY: usize = 5_000;
const SITES_OF_A_REPORT: usize = 20_000;

/// This many sites; the last is the one that has events.
fn sites(count: usize) -> Vec<String> {
    let others = (1..count as u128).map(|number| Uuid::from_u128(number).to_string());
    others.chain([SITE.to_string()]).collect()
}

/// A world with one event of the site and one of another that nobody asks for.
async fn world_of_two(test: &str) -> World {
    let world = World::new(test);
    let (serve, _consume) = world.all().await;
    let day = "2024-02-29T12:00:00";
    for site in [SITE, &Uuid::max().to_string()] {
        accept(&serve.address, &event(site, "serve", day)).await;
    }
    world.await_counted(2).await;
    world
}

#[tokio::test]
async fn a_report_names_thousands_of_sites_or_says_how_many_it_may() {
    let world = world_of_two("many_sites").await;
    // A failure prints what was said, and not thousands of flags.
    let report = async |count: usize| {
        let flags = sites(count).into_iter().map(|site| format!("--site-id={site}"));
        let mut command = world.command(&["report", "--format", "csv"]);
        command.args(flags);
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        run.await.unwrap()
    };
    for count in [1, 7_000, SITES_OF_A_REPORT] {
        let output = report(count).await;
        let [rows, notes] = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        assert_eq!(
            rows,
            format!("date,site_id,served,solved\n2024-02-29,{SITE},1,0\n"),
            "{count}"
        );
        // How far it is complete; and five of the sites without events, and the number of the others.
        assert_eq!(
            notes.lines().count(),
            if count == 1 { 1 } else { 1 + 5 + 1 },
            "{count}: {notes}"
        );
        let others = format!("captcha: {} more sites have no events\n", count.saturating_sub(1 + 5));
        assert_eq!(notes.ends_with(&others), count > 1, "{count}: {notes}");
    }
    let output = report(SITES_OF_A_REPORT + 1).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "captcha: the report names 20001 sites and may name 20000; ask for all sites, or for some at a time\n"
    );
}

#[tokio::test]
async fn a_key_of_many_sites_reads_their_report_without_naming_them() {
    let world = world_of_two("key_of_many").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.txt");
    let key = new_key(&world, &file, &["--role", "read", "--sites", SITE]).await;
    let line = std::fs::read_to_string(&file).unwrap();
    let all = sites(SITES_OF_A_KEY).join(",");
    std::fs::write(&file, line.replacen(SITE, &all, 1)).unwrap();
    let flags = ["--keys-file", file.to_str().unwrap(), "--head-bytes-max", "65536"];
    let serve = world.serve_with(&flags).await;
    // A request's target has at most 65,534 bytes, whatever its head may have.
    let named: Vec<String> = sites(1_400).iter().map(|id| format!("site_id={id}")).collect();
    let named = format!("/v1/report?{}", named.join("&"));
    for path in ["/v1/report", &named] {
        let headers = [("authorization", key.as_str())];
        let reply = request(&serve.address, "GET", path, &headers, "").await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let rows = counters(&reply.json());
        assert_eq!(rows, [("2024-02-29".to_string(), SITE.to_string(), 1, 0)]);
    }
}
