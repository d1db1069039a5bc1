//! `captcha report audit`: clean when nothing is wrong, and each kind of damage found when it is made by hand.

use serde_json::{Value, json};

use crate::client::{SITE, accept, events, served};
use crate::world::World;

/// Runs the audit; its exit code and its partitions.
pub async fn audit(world: &World, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let args = [&["report", "audit", "--format", "json"], args].concat();
    let output = world.run(&args).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|err| panic!("{err}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let partitions = report["partitions"].as_array().unwrap().clone();
    (output.status.code(), partitions)
}

/// The kinds of damage that it found in a partition.
pub fn damage(partition: &Value) -> Vec<(&'static str, u64)> {
    let kinds = [
        "holes",
        "overlaps",
        "counted_twice",
        "left_out",
        "wrong_role",
        "differing",
        "beyond_log",
    ];
    let count = |kind: &'static str| (kind, partition[kind].as_u64().unwrap());
    kinds.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn each_kind_of_damage_is_found() {
    let world = World::new("audit");
    world.migrate(&["--partitions", "1"]).await;
    let serve = world.serve().await;
    let again = served("2024-01-01T00:00:00");
    accept(&serve.address, &json!([again])).await;
    accept(&serve.address, &events(5)).await;
    accept(&serve.address, &json!([again])).await;
    world.produce(0, &[Some(b"garbage"), None]).await;
    let mut consume = world.consume(&[]).await;
    world.await_log(9).await;
    consume.kill();
    accept(&serve.address, &events(2)).await;

    let (code, partitions) = audit(&world, &[]).await;
    assert_eq!((code, damage(&partitions[0])), (Some(0), Vec::new()), "{partitions:?}");
    for (member, value) in [
        ("kafka_first", 0),
        ("kafka_next", 11),
        ("head", 9),
        ("lag", 2),
        ("events", 6),
        ("repeats", 1),
        ("dead_letters", 2),
        ("compared", 9),
    ] {
        assert_eq!(partitions[0][member], value, "{member} of {partitions:?}");
    }

    let alter = async |what: &str| {
        let sql = format!("ALTER TABLE events {what} SETTINGS mutations_sync = 2");
        world.sql(&sql).await;
    };
    let expect = async |found: &[(&'static str, u64)]| {
        let (code, partitions) = audit(&world, &[]).await;
        assert_eq!((code, damage(&partitions[0])), (Some(3), found.to_vec()));
    };
    alter("UPDATE repeat = 0 WHERE offset = 6").await;
    expect(&[("counted_twice", 1), ("wrong_role", 1)]).await;
    alter("UPDATE repeat = 1 WHERE offset IN (1, 6)").await;
    expect(&[("left_out", 1), ("wrong_role", 1)]).await;
    alter("UPDATE repeat = 0 WHERE offset = 1").await;
    alter("UPDATE raw = 'other' WHERE offset = 7").await;
    alter("UPDATE correlation_id = generateUUIDv4() WHERE offset = 2").await;
    expect(&[("differing", 2)]).await;
    world
        .sql("INSERT INTO events SELECT * FROM events WHERE offset = 3")
        .await;
    let doubled = [
        ("overlaps", 1),
        ("counted_twice", 1),
        ("wrong_role", 1),
        ("differing", 2),
    ];
    expect(&doubled).await;
    alter("DELETE WHERE offset = 3").await;
    expect(&[("holes", 1), ("differing", 2)]).await;
    world
        .sql(&format!(
            "INSERT INTO events (topic, partition, offset, arrival, kind, span) \
             SELECT '{}', 0, 15, now64(3), 'gap', 8",
            world.name
        ))
        .await;
    expect(&[("holes", 1), ("overlaps", 1), ("differing", 2), ("beyond_log", 5)]).await;
    let output = world.run(&["report", "audit"]).await;
    let page = String::from_utf8(output.stdout).unwrap();
    let mut lines = page.lines();
    assert_eq!(lines.next(), Some("damage: 9 places in 1 of 1 partition"), "{page}");
    let kinds = lines.skip(2).take_while(|line| !line.is_empty());
    let kinds: Vec<_> = kinds
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let kind = |damage: &str| format!("{} 0 {damage}", world.name);
    assert_eq!(
        kinds,
        ["holes 1", "overlaps 1", "differing 2", "beyond_log 5"].map(kind),
        "{page}"
    );
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with("captcha: the audit found damage in 9 places"),
        "{line}"
    );
}

#[tokio::test]
async fn each_wrong_role_is_found() {
    let world = World::new("audit_roles");
    world
        .migrate(&["--partitions", "1", "--dedup-window-records", "6"])
        .await;
    world.produce(0, &[Some(b"garbage")]).await;
    let serve = world.serve().await;
    let of = |event_type: &str, challenge: u32, second: u32| {
        json!({
            "site_id": SITE,
            "type": event_type,
            "correlation_id": format!("00000000-0000-4000-8000-{challenge:012}"),
            "time": format!("2024-01-01T00:00:{second:02}"),
        })
    };
    let events = json!([
        of("serve", 1, 1),
        of("solve", 1, 3),
        of("solve", 2, 5),
        of("serve", 2, 4),
        of("serve", 2, 4),
        of("serve", 2, 6),
        of("solve", 2, 7),
        of("serve", 3, 8),
        of("serve", 1, 9),
    ]);
    accept(&serve.address, &events).await;
    let consume = world.consume(&[]).await;
    world.await_log(10).await;
    drop(consume);
    let roles = world.sql("SELECT toString(role) FROM events ORDER BY offset").await;
    let expected = [
        "", "first", "answer", "open", "first", "", "again", "again", "first", "first",
    ];
    assert_eq!(roles.concat(), expected);

    let rows = "topic, partition, offset, arrival, span, kind, reason, raw, repeat, site_id, type, correlation_id, time, \
                role, solve_after_micros, other_month, rules";
    world.sql("CREATE TABLE right AS events").await;
    world
        .sql(&format!("INSERT INTO right ({rows}) SELECT {rows} FROM events"))
        .await;
    for (wrong, places) in [
        ("rules = 1 WHERE 1", 0),
        ("role = 'again' WHERE offset = 1", 2),
        ("role = 'open' WHERE offset = 2", 1),
        ("solve_after_micros = 2000001 WHERE offset = 2", 1),
        ("other_month = 197001 WHERE offset = 2", 1),
        ("solve_after_micros = 0, other_month = 0 WHERE offset = 4", 2),
        ("role = '' WHERE offset = 6", 1),
        // A repeat, and a record that is not an event.
        ("role = 'again' WHERE offset = 5", 1),
        ("solve_after_micros = 1 WHERE offset = 0", 1),
        // Rows of an older captcha have no roles; the answer to one of them is in no pair.
        ("rules = 0 WHERE offset = 8", 1),
        ("rules = 0, role = '' WHERE offset = 8", 0),
        ("rules = 0, role = '' WHERE offset = 1", 1),
        // By rules that this captcha does not know.
        ("rules = 2, role = 'x' WHERE offset = 8", 0),
    ] {
        world.sql("TRUNCATE TABLE events").await;
        world
            .sql(&format!(
                "INSERT INTO events ({rows}) SELECT {rows} FROM right SETTINGS insert_deduplicate = 0"
            ))
            .await;
        let sql = format!("ALTER TABLE events UPDATE {wrong} SETTINGS mutations_sync = 2");
        world.sql(&sql).await;
        let (code, partitions) = audit(&world, &[]).await;
        let found = match places {
            0 => (Some(0), Vec::new()),
            _ => (Some(3), vec![("wrong_role", places)]),
        };
        assert_eq!((code, damage(&partitions[0])), found, "{wrong}");
    }
}

#[tokio::test]
async fn days_limit_what_is_looked_at() {
    let world = World::new("audit_days");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(20)).await;
    world.await_log(20).await;
    let all = ["--from", "2020-01-01", "--to", "2200-01-01"];
    let (code, partitions) = audit(&world, &all).await;
    let compared =
        |partitions: &[Value]| -> u64 { partitions.iter().map(|line| line["compared"].as_u64().unwrap()).sum() };
    assert_eq!((code, compared(&partitions)), (Some(0), 20));
    let (code, partitions) = audit(&world, &["--to", "2020-01-01"]).await;
    assert_eq!((code, compared(&partitions)), (Some(0), 0));
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_another_exit_code() {
    let mut world = World::new("audit_away");
    let line = world.refused(&["report", "audit"]).await;
    assert!(line.contains("run `captcha migrate`"), "{line}");
    world.migrate(&[]).await;
    let table = world.ok(&["report", "audit", "--format", "table"]).await;
    assert!(
        table.starts_with("clean: 4 partitions, 0 records compared, 0 not stored yet\n"),
        "{table}"
    );
    world.kafka = "127.0.0.1:1".to_string();
    let line = world.refused(&["report", "audit"]).await;
    assert!(line.starts_with("captcha: cannot connect to kafka"), "{line}");
}
