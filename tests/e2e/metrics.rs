//! `/metrics` of both processes, held against Prometheus' naming conventions and the OpenMetrics text format.

use std::collections::BTreeMap;

use crate::client::get;
use crate::world::World;

/// What the page says of one family.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    unit: String,
    samples: Vec<String>,
}

/// Reads a page; panics where it breaks the format.
fn families(page: &str) -> BTreeMap<String, Family> {
    let body = page.strip_suffix("# EOF\n").expect("no # EOF at the end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        let Some(meta) = line.strip_prefix("# ") else {
            assert!(line.starts_with(&current), "{line:?} stands in {current}");
            families
                .get_mut(&current)
                .unwrap()
                .samples
                .push(line.to_string());
            continue;
        };
        let (word, rest) = meta.split_once(' ').unwrap();
        let (name, text) = rest.split_once(' ').unwrap();
        if name != current {
            let before = families.insert(name.to_string(), Family::default());
            assert!(before.is_none(), "{name} comes twice");
            current = name.to_string();
        }
        let family = families.get_mut(name).unwrap();
        match word {
            "TYPE" => family.kind = text.to_string(),
            "HELP" => family.help = text.to_string(),
            "UNIT" => family.unit = text.to_string(),
            _ => panic!("{line:?}"),
        }
    }
    families
}

fn lint(page: &str) {
    let families = families(page);
    assert!(families.len() > 5, "{page}");
    for (name, family) in &families {
        let is_snake = name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(
            name.starts_with("captcha_") && is_snake && !name.contains("__"),
            "{name}"
        );
        for (ending, instead) in [
            ("_total", "nothing"),
            ("_count", "nothing"),
            ("_ms", "seconds"),
            ("_millis", "seconds"),
            ("_micros", "seconds"),
            ("_minutes", "seconds"),
            ("_kb", "bytes"),
            ("_percent", "ratio"),
        ] {
            assert!(!name.ends_with(ending), "{name}: {instead}, not {ending}");
        }
        let is_capital = family
            .help
            .starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
        assert!(
            is_capital && family.help.ends_with('.'),
            "{name}: {:?}",
            family.help
        );
        for unit in ["seconds", "bytes"] {
            let named = name.ends_with(&format!("_{unit}"));
            assert_eq!(
                named,
                family.unit == unit,
                "{name} has the unit {:?}",
                family.unit
            );
        }
        for sample in &family.samples {
            let (series, value) = sample.rsplit_once(' ').unwrap();
            let of = series.split('{').next().unwrap();
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{name} is a {other}"),
            };
            assert!(
                suffixes
                    .iter()
                    .any(|suffix| of == format!("{name}{suffix}")),
                "{sample}"
            );
            assert!(value.parse::<f64>().is_ok(), "{sample}");
        }
        let mut series: Vec<_> = family
            .samples
            .iter()
            .map(|s| s.rsplit_once(' ').unwrap().0)
            .collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "{name} has a series twice");
    }
}

#[tokio::test]
async fn metrics_keep_to_the_conventions_and_are_there_from_the_start() {
    let world = World::new("metrics");
    world.migrate(&[]).await;
    let (serve, consume) = (world.serve().await, world.consume(&[]).await);
    let page = get(&serve.admin, "/metrics").await;
    assert_eq!(
        page.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    lint(&page.text());
    let series = |text: &str| {
        let names = text.lines().filter(|line| !line.starts_with('#'));
        names
            .map(|line| line.rsplit_once(' ').unwrap().0.to_string())
            .collect::<Vec<_>>()
    };
    let from_the_start = series(&page.text());
    assert!(
        from_the_start
            .contains(&"captcha_http_requests_total{route=\"events\",status=\"503\"}".to_string())
    );
    for path in [
        "/v1/",
        "/v1/nothing",
        "/v1/report",
        "/v1/docs",
        "/v1/events",
    ] {
        get(&serve.address, path).await;
    }
    let mut later = series(&get(&serve.admin, "/metrics").await.text());
    let mut before = from_the_start;
    before.sort_unstable();
    later.sort_unstable();
    assert_eq!(before, later);

    consume.await_ready(200, "partition 0: ok").await;
    lint(&get(&consume.admin, "/metrics").await.text());
}
