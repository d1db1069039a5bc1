//! `/metrics` of both processes, held against Prometheus' naming conventions, the OpenMetrics text format, and what happened.

mod page;

use serde_json::json;

use self::page::{Families, documented, lint, scraped};
use crate::client::{SITE, accept, events, get, request};
use crate::keys::new_key;
use crate::process::{CREATE_TIME, Process, Server, configure_topic, eventually, shared};
use crate::world::World;

const DAY_SECONDS: f64 = 86_400.0;

#[tokio::test]
async fn metrics_keep_to_the_conventions_and_are_there_from_the_start() {
    let world = World::new("metrics");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.txt");
    new_key(&world, &keys, &["--role", "write", "--sites", "*"]).await;
    let with_keys = ["--keys-file", keys.to_str().unwrap()];
    let serve = world.serve_with(&with_keys).await;
    // A leader is there once it was tried, and all else from the start.
    let page = eventually("a leader to be tried", async || {
        let page = get(&serve.admin, "/metrics").await;
        let is_tried = page.text().contains("captcha_leader_reachable{");
        is_tried.then_some(page).ok_or("not yet".to_string())
    })
    .await;
    assert_eq!(
        page.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    lint(&page.text());
    assert_eq!(scraped(&page.text()), documented("serve"));
    let series = |text: &str| {
        let names = text.lines().filter(|line| !line.starts_with('#'));
        // Another leader may be tried meanwhile.
        let names = names.filter(|line| !line.starts_with("captcha_leader_reachable{"));
        names
            .map(|line| line.rsplit_once(' ').unwrap().0.to_string())
            .collect::<Vec<_>>()
    };
    let from_the_start = series(&page.text());
    assert!(from_the_start.contains(&"captcha_http_requests_total{route=\"events\",status=\"503\"}".to_string()));
    for path in ["/v1/", "/v1/nothing", "/v1/report", "/v1/docs", "/v1/events"] {
        get(&serve.address, path).await;
    }
    let mut later = series(&get(&serve.admin, "/metrics").await.text());
    let mut before = from_the_start;
    before.sort_unstable();
    later.sort_unstable();
    assert_eq!(before, later);
}

#[tokio::test]
async fn a_consumer_tells_all_that_is_documented_once_it_has_stored_something() {
    let world = World::new("metrics_consume");
    let (serve, consume) = world.all().await;
    accept(&serve.address, &events(100)).await;
    lint(&get(&consume.admin, "/metrics").await.text());
    eventually("all that is documented, and nothing else", async || {
        let (scraped, documented) = (
            scraped(&get(&consume.admin, "/metrics").await.text()),
            documented("consume"),
        );
        let differing = |one: &Families, other: &Families| {
            let differs = |(name, says): &(&String, _)| other.get(*name) != Some(*says);
            let names = one.iter().filter(differs).map(|(name, _)| name.clone());
            names.collect::<Vec<String>>()
        };
        let lacking = differing(&documented, &scraped);
        let unknown = differing(&scraped, &documented);
        (lacking.is_empty() && unknown.is_empty())
            .then_some(())
            .ok_or(format!("lacking {lacking:?}, unknown {unknown:?}"))
    })
    .await;
    consume.await_ready(200, "partition 0: ok").await;
    assert_eq!(consume.metric("captcha_ready{check=\"partition 0\"}").await, 1.0);
    assert_eq!(serve.metric("captcha_ready{check=\"serving\"}").await, 1.0);
    let partitions = consume.metric("captcha_topic_partitions").await;
    for number in 0..partitions as u32 {
        let check = format!("captcha_ready{{check=\"partition {number}\"}}");
        consume.metric(&check).await;
    }
    assert!(partitions > 1.0);
    lint(&get(&consume.admin, "/metrics").await.text());
}

#[tokio::test]
async fn a_process_tells_what_it_takes_and_which_it_is() {
    let world = World::new("vitals");
    let (serve, consume) = world.all().await;
    for process in [&serve, &consume] {
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("captcha_build_info{{version=\"{version}\"}}");
        assert_eq!(process.metric(&build).await, 1.0);
        let folder = format!("/proc/{}", process.pid());
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let peak_kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.unwrap().split_whitespace().next().unwrap();
            number.parse::<f64>().unwrap()
        };
        let resident = process.metric("process_resident_memory_bytes").await;
        let most = 2.0 * 1024.0 * peak_kib("VmHWM:");
        assert!((1e6..most).contains(&resident), "{resident}");
        assert!(process.metric("process_virtual_memory_bytes").await > resident);
        let open = process.metric("process_open_fds").await;
        // stdin, stdout, stderr, a listener, and the connection that is asked over.
        assert!(open >= 5.0 && open < process.metric("process_max_fds").await);
        let started = process.metric("process_start_time_seconds").await;
        let now = chrono::Utc::now().timestamp() as f64;
        assert!((now - started).abs() < DAY_SECONDS, "{started}");
        assert_eq!(process.metric("process_start_time_seconds").await, started);
        let took = process.metric("process_cpu_seconds_total").await;
        eventually("scrapes to cost something", async || {
            let takes = process.metric("process_cpu_seconds_total").await;
            (takes > took).then_some(()).ok_or(takes.to_string())
        })
        .await;
    }
}

async fn refused(serve: &Process, reason: &str) -> f64 {
    let series = format!("captcha_events_rejected_total{{reason=\"{reason}\"}}");
    serve.metric(&series).await
}

#[tokio::test]
async fn refused_events_are_counted_by_reason() {
    let world = World::new("refused");
    world.migrate(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.txt");
    let words = ["--role", "write", "--sites", SITE, "--rate", "1", "--burst", "1000"];
    let key = new_key(&world, &keys, &words).await;
    let serve = world
        .serve_with(&["--keys-file", keys.to_str().unwrap(), "--body-bytes-max", "500000"])
        .await;
    let send = async |path: &str, key: &str, body: String| {
        let headers = [("content-type", "application/json"), ("authorization", key)];
        let reply = request(&serve.address, "POST", path, &headers, body).await;
        reply.unwrap().status.as_u16()
    };
    let mut half = events(3);
    half[1]["time"] = json!("2024-01-01");
    let mut foreign = events(4);
    foreign[3]["site_id"] = json!("00000000-0000-4000-8000-000000000001");
    let path = "/v1/events";
    for (body, status, reason, total) in [
        (half.to_string(), 422, "malformed", 3.0),
        ("{".to_string(), 400, "malformed", 4.0),
        ("[]".to_string(), 422, "malformed", 5.0),
        (foreign.to_string(), 403, "denied", 4.0),
        (events(1_001).to_string(), 413, "too_large", 1_001.0),
        ("x".repeat(500_001), 413, "too_large", 1_002.0),
    ] {
        assert_eq!(send(path, &key, body).await, status);
        assert_eq!(refused(&serve, reason).await, total, "{reason}");
    }
    assert_eq!(send(path, "", events(7).to_string()).await, 401);
    assert_eq!(refused(&serve, "denied").await, 5.0, "nobody read the body");
    assert_eq!(send(path, &key, events(990).to_string()).await, 200);
    assert_eq!(send(path, &key, events(900).to_string()).await, 429);
    assert_eq!(refused(&serve, "rate").await, 900.0);

    // What is no event that somebody wants to be counted is in none.
    let dry = "/v1/events?dry_run=true";
    assert_eq!(send(dry, &key, half.to_string()).await, 422);
    assert_eq!(send("/v1/nothing", &key, half.to_string()).await, 404);
    assert_eq!(get(&serve.address, "/v1/report").await.status, 401);
    let page = get(&serve.admin, "/metrics").await.text();
    let lines = page
        .lines()
        .filter(|line| line.starts_with("captcha_events_rejected_total"));
    let sum: f64 = lines
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert_eq!(sum, 5.0 + 5.0 + 1_002.0 + 900.0);
    assert_eq!(serve.metric("captcha_events_accepted_total").await, 990.0);
    let confirmed = "captcha_produce_duration_seconds_count{result=\"ok\"}";
    assert!(serve.metric(confirmed).await >= 1.0);
    let failed = "captcha_produce_duration_seconds_count{result=\"failed\"}";
    assert_eq!(serve.metric(failed).await, 0.0);
}

#[tokio::test]
async fn what_is_stored_is_measured_record_by_record() {
    let world = World::new("measured");
    let consume = world.consume(&[]).await;
    consume.await_ready(503, "schema: ").await;
    assert_eq!(consume.metric("captcha_schema_version").await, 0.0);
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    accept(&serve.address, &events(300)).await;
    world.produce(0, &[Some(b"garbage"), None]).await;
    world.await_log(302).await;
    for (name, wanted) in [
        ("captcha_insert_rows_sum", 302.0),
        ("captcha_end_to_end_duration_seconds_count", 302.0),
        ("captcha_end_to_end_duration_seconds_bucket{le=\"+Inf\"}", 302.0),
        ("captcha_lag_records{partition=\"0\"}", 0.0),
        ("captcha_lag_seconds{partition=\"0\"}", 0.0),
    ] {
        // The table shows rows before their consumer knows of it.
        eventually(name, async || {
            let value = consume.metric(name).await;
            (value == wanted).then_some(()).ok_or(value.to_string())
        })
        .await;
    }
    let inserts = consume.metric("captcha_insert_duration_seconds_count").await;
    assert_eq!(consume.metric("captcha_insert_rows_count").await, inserts);
    let versions = world.sql("SELECT toString(max(version)) FROM migrations").await;
    let version: f64 = versions[0][0].parse().unwrap();
    assert_eq!(consume.metric("captcha_schema_version").await, version);
    // As a newer captcha would, with which this one can still work.
    let newer = version + 1.0;
    world
        .sql(&format!(
            "INSERT INTO migrations (version, name, checksum, compatible_since) \
             SELECT {newer}, 'next', '', {version}"
        ))
        .await;
    eventually("the newer schema to be seen", async || {
        let seen = consume.metric("captcha_schema_version").await;
        (seen == newer).then_some(()).ok_or(seen.to_string())
    })
    .await;
}

#[tokio::test]
async fn the_lag_grows_while_clickhouse_is_away() {
    let clickhouse = Server::started("clickhouse").await;
    let world = World::on("lag", &shared("CAPTCHA_TEST_KAFKA"), &clickhouse.address());
    world.migrate(&["--partitions", "1"]).await;
    // Kafka dates what it takes, whatever the clock of serve says.
    let serve = match cfg!(target_os = "linux") {
        true => world.with_clock(-8 * DAY_SECONDS as i64).serve().await,
        false => world.serve().await,
    };
    the_lag_grows(clickhouse, &world, &serve).await;
}

#[tokio::test]
async fn the_lag_grows_where_senders_date_as_well() {
    let clickhouse = Server::started("clickhouse").await;
    let world = World::on("lag_own", &shared("CAPTCHA_TEST_KAFKA"), &clickhouse.address());
    world.migrate(&["--partitions", "1"]).await;
    configure_topic(&world.kafka, &world.name, CREATE_TIME).await;
    let serve = world.serve().await;
    the_lag_grows(clickhouse, &world, &serve).await;
}

async fn the_lag_grows(mut clickhouse: Server, world: &World, serve: &Process) {
    let consume = world.consume(&[]).await;
    accept(&serve.address, &events(10)).await;
    world.await_counted(10).await;
    let lag = "captcha_lag_seconds{partition=\"0\"}";
    let comes = async |what: &str, is_it: &dyn Fn(f64) -> bool| {
        eventually(what, async || {
            let seconds = consume.metric(lag).await;
            is_it(seconds).then_some(seconds).ok_or(seconds.to_string())
        })
        .await
    };
    comes("no lag", &|seconds| seconds == 0.0).await;
    clickhouse.kill();
    consume.await_ready(503, "clickhouse").await;
    assert_eq!(consume.metric(lag).await, 0.0, "nothing is lacking");
    // The consumer has no session any more that would fetch it.
    accept(&serve.address, &events(7)).await;
    let first = comes("a lag", &|seconds| seconds > 0.0 && seconds < DAY_SECONDS).await;
    comes("it to grow", &|seconds| seconds > first + 1.0).await;
    let records = "captcha_lag_records{partition=\"0\"}";
    assert_eq!(consume.metric(records).await, 7.0);
    // Retention is faster than what is away: what it took is lacking as well.
    let log = world.partition(0).await;
    log.delete_records(14, 10_000).await.unwrap();
    accept(&serve.address, &events(3)).await;
    eventually("the lag past what Kafka dropped", async || {
        let lag = consume.metric(records).await;
        (lag == 10.0).then_some(()).ok_or(lag.to_string())
    })
    .await;
    clickhouse.start_and_listen().await;
    world.await_counted(16).await;
    comes("no lag", &|seconds| seconds == 0.0).await;
    assert_eq!(consume.metric(records).await, 0.0);
}
