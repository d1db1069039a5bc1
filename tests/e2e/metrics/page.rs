//! A page of metrics: read, held against the conventions and against docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};

/// What the page says of one family.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    unit: String,
    samples: Vec<String>,
}

/// Type and labels of each family, by its name as Prometheus stores it.
pub type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// Reads a page; panics where it breaks the format.
fn families(page: &str) -> BTreeMap<String, Family> {
    let body = page.strip_suffix("# EOF\n").expect("no # EOF at the end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        let Some(meta) = line.strip_prefix("# ") else {
            assert!(line.starts_with(&current), "{line:?} stands in {current}");
            families.get_mut(&current).unwrap().samples.push(line.to_string());
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

impl Family {
    /// The names of the labels that its samples have, but for the bound of a histogram's bucket.
    fn labels(&self) -> BTreeSet<String> {
        let lists = self.samples.iter().filter_map(|sample| {
            let (series, _) = sample.rsplit_once(' ').unwrap();
            series.strip_suffix('}')?.split_once('{')
        });
        let names = lists.flat_map(|(_, list)| list.split("\",").map(|label| label.split_once('=').unwrap().0));
        names.filter(|name| *name != "le").map(str::to_string).collect()
    }
}

/// What docs/metrics.md says of `serve` or `consume`.
pub fn documented(process: &str) -> Families {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"));
    let page = page.unwrap();
    let mut all = BTreeMap::new();
    for section in page.split("\n## ").skip(1) {
        let (title, text) = section.split_once('\n').unwrap();
        if !title.contains(&format!("`{process}`")) {
            continue;
        }
        for row in text
            .lines()
            .filter(|line| line.starts_with("| `captcha_") || line.starts_with("| `process_"))
        {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, labels, meaning] = cells[..] else {
                panic!("{row}");
            };
            assert!(!meaning.is_empty(), "{row}");
            let labels = labels.split(", ").map(|label| label.trim_matches('`'));
            let labels = labels.filter(|label| !label.is_empty());
            let says = (kind.to_string(), labels.map(str::to_string).collect());
            let before = all.insert(name.trim_matches('`').to_string(), says);
            assert!(before.is_none(), "{name} is there twice");
        }
    }
    all
}

/// The same of what was scraped.
pub fn scraped(page: &str) -> Families {
    let stored = |(name, family): (String, Family)| {
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels = family.labels();
        (format!("{name}{suffix}"), (family.kind, labels))
    };
    families(page).into_iter().map(stored).collect()
}

/// Holds a page against the conventions.
pub fn lint(page: &str) {
    let families = families(page);
    assert!(families.len() > 5, "{page}");
    for (name, family) in &families {
        let is_snake = name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(
            ["captcha_", "process_"].iter().any(|prefix| name.starts_with(prefix)) && is_snake && !name.contains("__"),
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
        assert!(is_capital && family.help.ends_with('.'), "{name}: {:?}", family.help);
        for unit in ["seconds", "bytes"] {
            let named = name.ends_with(&format!("_{unit}"));
            assert_eq!(named, family.unit == unit, "{name} has the unit {:?}", family.unit);
        }
        for sample in &family.samples {
            let (series, value) = sample.rsplit_once(' ').unwrap();
            let of = series.split('{').next().unwrap();
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{name} is a {other}"),
            };
            assert!(
                suffixes.iter().any(|suffix| of == format!("{name}{suffix}")),
                "{sample}"
            );
            assert!(value.parse::<f64>().is_ok(), "{sample}");
        }
        let mut series: Vec<_> = family.samples.iter().map(|s| s.rsplit_once(' ').unwrap().0).collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "{name} has a series twice");
    }
}
