//! Sites as a table names them: by name, or by as much of the UUID as tells it from the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use unicode_width::UnicodeWidthChar as _;
use uuid::Uuid;

use super::signs::Signs;
use crate::site_names::SiteNames;
use crate::terminal::escape::{self, display_width};

/// Characters of a UUID at which it may be cut: before its dashes. Git's short names of commits are as long as the
/// first.
const UUID_CUTS: [usize; 4] = [8, 13, 18, 23];

/// Characters of a UUID.
const UUID_CHARS: usize = 36;

/// The sites below the top ones, which share a row.
const OTHERS: &str = "others";

/// The sites of a table.
pub struct Labels {
    /// Escaped names; `None` for a site without one.
    names: BTreeMap<Uuid, Option<String>>,
    has_others: bool,
    /// Characters of a UUID by which no two of these sites are the same.
    uuid_chars: usize,
    signs: &'static Signs,
}

impl Labels {
    pub fn new(site_ids: &BTreeSet<Option<Uuid>>, names: &SiteNames, signs: &'static Signs) -> Labels {
        let ids: Vec<Uuid> = site_ids.iter().filter_map(|site_id| *site_id).collect();
        let name = |site_id: Uuid| names.get(site_id).map(|name| escape::line(name).into_owned());
        Labels {
            names: ids.iter().map(|site_id| (*site_id, name(*site_id))).collect(),
            has_others: site_ids.contains(&None),
            uuid_chars: distinct_chars(&ids),
            signs,
        }
    }

    /// Whether any site has a name.
    pub fn has_names(&self) -> bool {
        self.names.values().any(Option::is_some)
    }

    /// The columns that whole names and UUIDs take.
    pub fn width(&self) -> usize {
        self.widths(UUID_CHARS)
    }

    /// The columns that whole names and short UUIDs take.
    pub fn short_width(&self) -> usize {
        self.widths(self.short_uuid_width())
    }

    fn widths(&self, uuid_width: usize) -> usize {
        let width = |name: &Option<String>| name.as_ref().map_or(uuid_width, |name| display_width(name));
        let others = self.has_others.then_some(OTHERS.len());
        self.names.values().map(width).chain(others).max().unwrap_or(0)
    }

    fn short_uuid_width(&self) -> usize {
        match self.uuid_chars {
            UUID_CHARS => UUID_CHARS,
            chars => chars + display_width(self.signs.cut),
        }
    }

    /// A label of at most this many columns for each site. Sites that would have the same one have their UUIDs too.
    pub fn cut_to(&self, width: usize) -> HashMap<Option<Uuid>, String> {
        let label = |(site_id, name): (&Uuid, &Option<String>)| {
            let label = match name {
                Some(name) => cut(name, width, self.signs),
                None => self.uuid(*site_id, width),
            };
            (Some(*site_id), label)
        };
        let mut labels: HashMap<_, _> = self.names.iter().map(label).collect();
        let mut sites_of: BTreeMap<&str, u32> = BTreeMap::new();
        for label in labels.values() {
            *sites_of.entry(label).or_default() += 1;
        }
        let is_shared = |label: &str| sites_of.get(label).is_some_and(|sites| *sites > 1);
        let shared = labels.iter().filter(|(_, label)| is_shared(label));
        let shared: Vec<Uuid> = shared.filter_map(|(site_id, _)| *site_id).collect();
        for site_id in shared {
            let name = self.names.get(&site_id).and_then(Option::as_deref).unwrap_or_default();
            labels.insert(Some(site_id), self.name_and_uuid(name, site_id, width));
        }
        if self.has_others {
            labels.insert(None, cut(OTHERS, width, self.signs));
        }
        labels
    }

    fn uuid(&self, site_id: Uuid, width: usize) -> String {
        let text = site_id.to_string();
        match width >= UUID_CHARS || self.uuid_chars == UUID_CHARS {
            true => text,
            false => format!("{}{}", &text[..self.uuid_chars], self.signs.cut),
        }
    }

    fn name_and_uuid(&self, name: &str, site_id: Uuid, width: usize) -> String {
        let uuid = self.uuid(site_id, self.short_uuid_width());
        match width.checked_sub(display_width(&uuid) + 1) {
            Some(left) if left > display_width(self.signs.cut) => format!("{} {uuid}", cut(name, left, self.signs)),
            _ => uuid,
        }
    }
}

/// The smallest number of first characters, of [`UUID_CUTS`] or all, by which no two of these are the same.
fn distinct_chars(sorted: &[Uuid]) -> usize {
    let is_distinct = |chars: &usize| {
        // Two hexadecimal digits are a byte.
        let bytes = (chars - chars / 9) / 2;
        sorted
            .windows(2)
            .all(|pair| pair[0].as_bytes()[..bytes] != pair[1].as_bytes()[..bytes])
    };
    UUID_CUTS.into_iter().find(is_distinct).unwrap_or(UUID_CHARS)
}

/// A text of at most this many columns.
pub fn cut(text: &str, width: usize, signs: &Signs) -> String {
    if display_width(text) <= width {
        return text.to_string();
    }
    let left = width.saturating_sub(display_width(signs.cut));
    let mut kept = String::new();
    let mut columns = 0;
    for c in text.chars() {
        columns += c.width().unwrap_or(0);
        if columns > left {
            break;
        }
        kept.push(c);
    }
    format!("{}{}", kept.trim_end(), signs.cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::view::signs::{ASCII, UTF8};

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn labels(names: &[(u128, &str)], others: &[u128]) -> Labels {
        let file: String = names
            .iter()
            .map(|(number, name)| format!("{} {name}\n", id(*number)))
            .collect();
        let names_of = SiteNames::parse(file.as_bytes()).unwrap();
        let ids = names.iter().map(|(number, _)| *number).chain(others.iter().copied());
        Labels::new(&ids.map(|number| Some(id(number))).collect(), &names_of, &UTF8)
    }

    #[test]
    fn a_uuid_is_cut_where_it_still_differs_from_the_others() {
        let one = 0x6f1c1f2e_3d0b_4c5a_9b0e_2f4b8f3f7a01;
        let short = |others: &[u128]| {
            let labels = labels(&[], others);
            labels.cut_to(labels.short_width())[&Some(id(others[0]))].clone()
        };
        for (other, expected) in [
            (one + (1 << 96), "6f1c1f2e\u{2026}"),
            (one + (1 << 80), "6f1c1f2e-3d0b\u{2026}"),
            (one + (1 << 64), "6f1c1f2e-3d0b-4c5a\u{2026}"),
            (one + (1 << 48), "6f1c1f2e-3d0b-4c5a-9b0e\u{2026}"),
            (one + 1, "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01"),
        ] {
            assert_eq!(short(&[one, other]), expected);
        }
        assert_eq!(short(&[one]), "6f1c1f2e\u{2026}");
    }

    #[test]
    fn names_that_look_the_same_have_their_uuids_too() {
        let same = labels(&[(1 << 100, "Shop"), (2 << 100, "Shop"), (3 << 100, "Blog")], &[]);
        let cut = same.cut_to(20);
        assert_eq!(cut[&Some(id(1 << 100))], "Shop 00000010\u{2026}");
        assert_eq!(cut[&Some(id(3 << 100))], "Blog");
        let long = labels(
            &[(1 << 100, "Production, Germany"), (2 << 100, "Production, Greece")],
            &[],
        );
        let texts = |width: usize| {
            let labels = long.cut_to(width);
            [1, 2].map(|number: u128| labels[&Some(id(number << 100))].clone())
        };
        assert_eq!(texts(19), ["Production, Germany", "Production, Greece"]);
        assert_eq!(texts(15), ["Production, Ge\u{2026}", "Production, Gr\u{2026}"]);
        assert_eq!(
            texts(13),
            ["Pr\u{2026} 00000010\u{2026}", "Pr\u{2026} 00000020\u{2026}"]
        );
        assert_eq!(texts(10), ["00000010\u{2026}", "00000020\u{2026}"]);
    }

    #[test]
    fn wide_letters_are_cut_by_the_columns_they_take() {
        let wide = "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{5e97}";
        for (width, expected) in [
            (10, wide),
            (9, "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{2026}"),
            (8, "\u{65e5}\u{672c}\u{8a9e}\u{2026}"),
            (1, "\u{2026}"),
        ] {
            assert_eq!(cut(wide, width, &UTF8), expected);
            assert!(display_width(&cut(wide, width, &UTF8)) <= width);
        }
        assert_eq!(cut("a long name", 7, &ASCII), "a lo...");
        assert_eq!(cut("a long name", 8, &UTF8), "a long\u{2026}");
    }
}
