//! ClickHouse with TLS, passwords and the least of grants: what works with them, and what is said where something is
//! wrong. The engine under test listens without TLS, so a port in front of it takes that off.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::certificates::{Authority, Certified, Valid, silent_port, text, tls_in_front_of};
use crate::client::{accept, events, get};
use crate::process::{Server, shared};
use crate::world::World;

/// The users of the cluster, as the operator gets them.
const USERS: &str = include_str!("../../k8s/components/clickhouse/users.yaml");

/// Each user's grants, in the database of a test.
fn grants(database: &str) -> BTreeMap<String, Vec<String>> {
    let page: serde_json::Value = serde_yaml_ng::from_str(USERS).unwrap();
    let users = page["spec"]["configuration"]["users"].as_object().unwrap();
    let of_user = users.iter().filter_map(|(path, value)| {
        let user = path.strip_suffix("/grants/query")?;
        let grants = value.as_array().unwrap().iter();
        let here = |grant: &serde_json::Value| {
            let grant = grant.as_str().unwrap();
            grant.replace(" captcha.", &format!(" {database}."))
        };
        Some((user.to_string(), grants.map(here).collect()))
    });
    of_user.collect()
}

/// A file of users: those of the cluster, and each of them once more without each of its grants.
fn users(all: &BTreeMap<String, Vec<String>>) -> String {
    let mut page = "<profiles><default/><readonly><readonly>1</readonly></readonly>\
         <reader><readonly>2</readonly></reader></profiles><quotas><default/></quotas><users>"
        .to_string();
    let mut add = |name: &str, password: &str, profile: &str, grants: &[String]| {
        let queries: String = grants.iter().map(|grant| format!("<query>{grant}</query>")).collect();
        let grants = match name {
            "default" => String::new(),
            _ => format!("<grants>{queries}</grants>"),
        };
        let _ = write!(
            page,
            "<{name}><password>{password}</password><profile>{profile}</profile><quota>default</quota>\
             <networks><ip>::/0</ip></networks>{grants}</{name}>"
        );
    };
    add("default", "", "default", &[]);
    for (user, grants) in all {
        add(user, "pw", "default", grants);
        for index in 0..grants.len() {
            let mut fewer = grants.clone();
            fewer.remove(index);
            add(&without(user, index), "pw", "default", &fewer);
        }
    }
    add("frozen", "pw", "readonly", &all["captcha_report"]);
    add("reader", "pw", "reader", &all["captcha_report"]);
    add("stranger", "pw", "default", &["GRANT SELECT ON system.one".to_string()]);
    page + "</users>"
}

fn without(user: &str, index: usize) -> String {
    format!("{user}_without_{index}")
}

/// A ClickHouse with these users for the database of a world.
async fn secure(test: &str) -> (World, Server) {
    let mut server = Server::new("clickhouse");
    let world = World::on(test, &shared("CAPTCHA_TEST_KAFKA"), &server.address());
    server.set_users(&users(&grants(&world.name)));
    server.start_and_listen().await;
    (world, server)
}

fn login(user: &str) -> [&str; 4] {
    ["--clickhouse-user", user, "--clickhouse-password", "pw"]
}

fn with<'a>(command: &[&'a str], args: &[&'a str]) -> Vec<&'a str> {
    [command, args].concat()
}

#[tokio::test]
async fn tls_and_the_least_grants_from_migrate_to_audit() {
    let (world, server) = secure("secure_path").await;
    let authority = Authority::new();
    let address = tls_in_front_of(&authority.server(), &server.address()).await;
    let ca = authority.file();
    let world = world.beside(&address);
    let tls = ["--clickhouse-tls", "--clickhouse-ca-file", text(&ca)];
    let as_user = |user| [&tls[..], &login(user)].concat();
    world.ok(&with(&["migrate"], &as_user("captcha_migrate"))).await;
    let said = world.ok(&with(&["migrate"], &as_user("captcha_migrate"))).await;
    assert!(said.starts_with("nothing to do"), "{said}");
    let serve = world.serve_with(&as_user("captcha_serve")).await;
    let consume = world.consume(&as_user("captcha_consume")).await;
    accept(&serve.address, &events(30)).await;
    consume.await_ready(200, "watermarks: ok").await;
    let counted = crate::process::eventually("30 events counted", async || {
        let report = world
            .ok(&with(&["report", "--format", "csv"], &as_user("captcha_report")))
            .await;
        report.contains(",30,0").then_some(report.clone()).ok_or(report)
    })
    .await;
    assert_eq!(counted.lines().count(), 2, "{counted}");
    assert_eq!(get(&serve.address, "/v1/report").await.status, 200);
    world.ok(&with(&["report"], &as_user("reader"))).await;
    world
        .ok(&with(&["report", "dead-letters"], &as_user("captcha_report")))
        .await;
    world.ok(&with(&["report", "audit"], &as_user("captcha_report"))).await;
    let old = "INSERT INTO events (topic, partition, offset, arrival, kind) VALUES ('old', 0, 0, '2001-01-01 00:00:00', 'bad')";
    world.beside(&server.address()).sql(old).await;
    let drop_months = ["migrate", "drop-months", "--before", "2001-02"];
    let said = world.ok(&with(&drop_months, &as_user("captcha_migrate"))).await;
    assert!(said.starts_with("dropped 2001-01: 1 rows"), "{said}");
}

#[tokio::test]
async fn no_grant_is_there_for_nothing() {
    let (world, _server) = secure("secure_grants").await;
    let all = grants(&world.name);
    let mut needless = Vec::new();
    for (index, grant) in all["captcha_migrate"].iter().enumerate() {
        let user = without("captcha_migrate", index);
        let partitions = ["migrate", "--partitions", "1"];
        let mut output = world.run(&with(&partitions, &login(&user))).await;
        if output.status.success() {
            let drop_months = ["migrate", "drop-months", "--before", "2001-01"];
            output = world.run(&with(&drop_months, &login(&user))).await;
        }
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_denied = line.contains("error 497 (ACCESS_DENIED)");
        if !is_denied || !line.ends_with("grant it to --clickhouse-user\n") {
            needless.push((grant, line));
        }
        let drop = format!("DROP DATABASE IF EXISTS {}", world.name);
        world.sql_as("default", "default", &drop).await;
    }
    assert!(needless.is_empty(), "{needless:?}");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    for (index, grant) in all["captcha_consume"].iter().enumerate() {
        let user = without("captcha_consume", index);
        accept(&serve.address, &events(1)).await;
        let consume = world.consume(&login(&user)).await;
        consume.await_ready(503, "error 497 (ACCESS_DENIED)").await;
        let ready = consume.ready().await.text();
        assert!(ready.contains("grant it to --clickhouse-user"), "{grant}: {ready}");
    }
    for user in ["captcha_report", "captcha_serve"] {
        for (index, grant) in all[user].iter().enumerate() {
            let line = world.refused(&with(&["report"], &login(&without(user, index)))).await;
            assert!(line.contains("error 497 (ACCESS_DENIED)"), "{grant}: {line}");
        }
    }
}

#[tokio::test]
async fn a_user_and_a_grant_that_are_made_later_are_waited_for() {
    const MIGRATE: &str = "captcha_migrate";
    let (world, mut server) = secure("secure_late").await;
    let all = grants(&world.name);
    let mut restart_with = async |all: &BTreeMap<String, Vec<String>>| {
        server.kill();
        server.set_users(&users(all));
        server.start_and_listen().await;
    };
    let mut without_user = all.clone();
    without_user.remove(MIGRATE);
    let mut without_grant = all.clone();
    let create_table = |grant: &String| grant.starts_with("GRANT CREATE TABLE ");
    without_grant
        .get_mut(MIGRATE)
        .unwrap()
        .retain(|grant| !create_table(grant));

    restart_with(&without_user).await;
    let wait = ["migrate", "--wait", "3600"];
    let mut migrate = world.start("migrate", &with(&wait, &login(MIGRATE)));
    let at = &world.clickhouse;
    let waiting = format!("waiting up to 3600 s: clickhouse at {at} ");
    let refused = format!("{waiting}refused the login of user {MIGRATE}: error 516 (AUTHENTICATION_FAILED)");
    migrate.await_said(&refused).await;
    let gave_up = world.refused(&with(&["migrate", "--wait", "1"], &login(MIGRATE))).await;
    let start = format!("captcha: gave up after 1 s: clickhouse at {at} refused the login of user {MIGRATE}: ");
    assert!(gave_up.starts_with(&start), "{gave_up}");
    restart_with(&without_grant).await;
    migrate
        .await_said(&format!("{waiting}answered error 497 (ACCESS_DENIED)"))
        .await;
    restart_with(&all).await;
    assert!(migrate.ended().await.success());
    let said = world.ok(&with(&["migrate"], &login(MIGRATE))).await;
    assert!(said.starts_with("nothing to do"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let (world, mut server) = secure("secure_wrong").await;
    let plain = server.address();
    let own = Authority::new();
    let localhost = ["localhost", "127.0.0.1"];
    let in_front = async |certified: Certified| tls_in_front_of(&certified, &plain).await;
    let good = in_front(own.server()).await;
    let expired = in_front(own.certify("expired", &localhost, Valid::Past)).await;
    let early = in_front(own.certify("early", &localhost, Valid::Future)).await;
    let elsewhere = in_front(own.certify("elsewhere", &["example.org"], Valid::Now)).await;
    let silent = silent_port().await;
    let (ca, foreign) = (own.file(), Authority::new());
    let foreign_ca = foreign.file();
    let key = own.certify("a", &[], Valid::Now);
    let other_key = own.certify("b", &[], Valid::Now);
    let tls = ["--clickhouse-tls", "--clickhouse-ca-file", text(&ca)];
    let kafka = world.kafka.clone();
    let cases: Vec<(&str, Vec<&str>, &str)> = vec![
        (
            &good,
            with(&["--clickhouse-tls", "--clickhouse-ca-file"], &[text(&foreign_ca)]),
            "with tls: its certificate is signed by none of the authorities in ",
        ),
        (
            &good,
            vec!["--clickhouse-tls"],
            "; check --clickhouse-addr and --clickhouse-ca-file",
        ),
        (&expired, tls.to_vec(), "with tls: its certificate has expired; check"),
        (
            &early,
            tls.to_vec(),
            "with tls: its certificate is not valid yet; look at both clocks; check",
        ),
        (
            &elsewhere,
            tls.to_vec(),
            "with tls: its certificate is for other names; check",
        ),
        (&plain, tls.to_vec(), "with tls: it "),
        (&good, vec![], "closed the connection during the login of user default"),
        (
            &silent,
            vec![],
            "did not answer within 3 s; see whether it is overloaded, and --clickhouse-addr: the port",
        ),
        (
            &silent,
            tls.to_vec(),
            "did not answer within 3 s; see whether it is overloaded, and --clickhouse-addr: the port",
        ),
        (&kafka, vec![], "clickhouse at "),
        (&good, with(&tls, &login("stranger")), "error 497 (ACCESS_DENIED)"),
        (&good, with(&tls, &login("frozen")), "error 164 (READONLY)"),
        (
            &good,
            with(&["--clickhouse-tls", "--clickhouse-ca-file"], &["/nowhere/ca.pem"]),
            "clickhouse: cannot read /nowhere/ca.pem: ",
        ),
        (
            &good,
            with(&["--clickhouse-tls", "--clickhouse-ca-file"], &[text(&key.key)]),
            "holds no certificate; expected PEM",
        ),
        (
            &good,
            with(
                &tls,
                &[
                    "--clickhouse-client-certificate-file",
                    text(&key.certificate),
                    "--clickhouse-client-key-file",
                    text(&other_key.key),
                ],
            ),
            " is not the key of ",
        ),
        (
            &plain,
            vec!["--clickhouse-password-file", "/nowhere/password"],
            "clickhouse: cannot read the password from /nowhere/password: ",
        ),
        (
            &plain,
            vec!["--clickhouse-database", "elsewhere"],
            "has no tables in database elsewhere; run `captcha migrate`",
        ),
    ];
    world.migrate(&[]).await;
    for (address, args, reason) in &cases {
        let line = world.beside(address).refused(&with(&["report"], args)).await;
        assert!(line.contains(reason), "{args:?}: {line}");
    }
    for flags in [
        ["--clickhouse-ca-file", "ca.pem"],
        ["--clickhouse-client-key-file", "a.key"],
    ] {
        let output = world.run(&with(&["report"], &flags)).await;
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }
    // One address that does not answer in the way that is asked for is no reason to stop at it.
    let several = format!("{silent},{expired},{good}");
    world.beside(&several).ok(&with(&["report"], &tls)).await;

    // The engine under test ends when somebody logs in with a wrong password; a server would not.
    for (user, password) in [("captcha_report", "wrong"), ("nobody", "pw")] {
        let args = ["--clickhouse-user", user, "--clickhouse-password", password];
        let line = world.refused(&with(&["report"], &args)).await;
        let start = format!(
            "captcha: clickhouse at {plain} refused the login of user {user}: error 516 (AUTHENTICATION_FAILED): "
        );
        assert!(line.starts_with(&start), "{line}");
        assert!(
            line.ends_with("; check --clickhouse-user and --clickhouse-password"),
            "{line}"
        );
        server.kill();
        server.start_and_listen().await;
    }
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let (world, server) = secure("secure_rotation").await;
    world.migrate(&[]).await;
    let (first, next) = (Authority::new(), Authority::new());
    let ca = first.file();
    let address = tls_in_front_of(&next.server(), &server.address()).await;
    let tls = ["--clickhouse-tls", "--clickhouse-ca-file", text(&ca)];
    let world = world.beside(&address);
    let serve = world.serve_with(&tls).await;
    let consume = world.consume(&tls).await;
    let reason = "signed by none of the authorities in";
    consume.await_ready(503, reason).await;
    assert_eq!(get(&serve.address, "/v1/report").await.status, 503);
    serve.await_said(reason).await;
    std::fs::copy(next.file(), &ca).unwrap();
    accept(&serve.address, &events(4)).await;
    consume.await_ready(200, "watermarks: ok").await;
    crate::process::eventually("4 events counted", async || {
        let report = get(&serve.address, "/v1/report").await.json();
        let counted = report["counters"][0]["served"] == 4;
        counted.then_some(()).ok_or(report.to_string())
    })
    .await;
}
