//! The sites that a reader may see, with their names. Pure.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::site_names::SiteNames;

/// Sites that a search names; more are no help.
const FOUND_MAX: usize = 20;

/// The names of the sites of one reader.
pub struct ReaderSites {
    names: Arc<SiteNames>,
    /// `None`: every site.
    allowed: Option<HashSet<Uuid>>,
}

/// The sites that a text may mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    One(Uuid),
    /// Several, or none.
    Some(Vec<Uuid>),
}

impl ReaderSites {
    /// Of a reader of these sites; of every site without any.
    pub fn new(names: Arc<SiteNames>, allowed: &[Uuid]) -> ReaderSites {
        ReaderSites {
            names,
            allowed: (!allowed.is_empty()).then(|| allowed.iter().copied().collect()),
        }
    }

    pub fn name(&self, site_id: Uuid) -> Option<&str> {
        self.names.get(site_id).filter(|_| self.is_allowed(site_id))
    }

    /// The name, or the UUID.
    pub fn title(&self, site_id: Uuid) -> String {
        self.name(site_id).map_or_else(|| site_id.to_string(), str::to_string)
    }

    /// What a report of these sites is about.
    pub fn title_of(&self, site_ids: &[Uuid]) -> String {
        match site_ids {
            [] => "All sites".to_string(),
            [site_id] => self.title(*site_id),
            many => format!("{} sites", many.len()),
        }
    }

    /// One of the sites of a reader who may not read all.
    pub fn example(&self) -> Option<Uuid> {
        self.allowed.as_ref()?.iter().min().copied()
    }

    /// All sites with a name, by name.
    pub fn named(&self) -> Vec<(&str, Uuid)> {
        let named = self.names.iter().filter(|(site_id, _)| self.is_allowed(*site_id));
        let mut named: Vec<_> = named.map(|(site_id, name)| (name, site_id)).collect();
        named.sort_by_cached_key(|(name, site_id)| (name.to_lowercase(), *site_id));
        named
    }

    /// The sites that a text means: a whole UUID, a name, or a part of either, of the sites with a name and of
    /// `others`.
    pub fn find(&self, text: &str, others: impl Iterator<Item = Uuid>) -> Found {
        if let Ok(site_id) = Uuid::parse_str(text) {
            return Found::One(site_id);
        }
        let text = text.to_lowercase();
        let named = self.named();
        let exact = named.iter().filter(|(name, _)| name.to_lowercase() == text);
        if let [(_, site_id)] = exact.collect::<Vec<_>>()[..] {
            return Found::One(*site_id);
        }
        let has_text = |site_id: Uuid| site_id.to_string().contains(&text);
        let by_name = named
            .iter()
            .filter(|(name, id)| name.to_lowercase().contains(&text) || has_text(*id));
        let mut found: Vec<Uuid> = by_name.map(|(_, site_id)| *site_id).collect();
        let known: BTreeSet<_> = found.iter().copied().collect();
        found.extend(others.filter(|site_id| has_text(*site_id) && !known.contains(site_id)));
        match found[..] {
            [site_id] => Found::One(site_id),
            _ => {
                found.truncate(FOUND_MAX);
                Found::Some(found)
            }
        }
    }

    fn is_allowed(&self, site_id: Uuid) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&site_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(allowed: &[u128]) -> ReaderSites {
        let lines = ["Shop", "shop staging", "Blog", "Forum", "Forum"];
        let line = |(number, name): (u128, &&str)| format!("{} {name}\n", Uuid::from_u128(number));
        let text: String = (1..).zip(&lines).map(line).collect();
        let names = SiteNames::parse(text.as_bytes()).unwrap();
        let allowed: Vec<_> = allowed.iter().copied().map(Uuid::from_u128).collect();
        ReaderSites::new(Arc::new(names), &allowed)
    }

    #[test]
    fn a_site_is_found_by_its_name_or_its_uuid() {
        let [shop, blog, other] = [1, 3, 77].map(Uuid::from_u128);
        let find = |text: &str| sites(&[]).find(text, [other, shop].into_iter());
        assert_eq!(find("SHOP"), Found::One(shop));
        assert_eq!(find("blo"), Found::One(blog));
        assert_eq!(find(&Uuid::max().to_string()), Found::One(Uuid::max()));
        assert_eq!(find("00004d"), Found::One(other));
        assert_eq!(find("sho"), Found::Some(vec![shop, Uuid::from_u128(2)]));
        assert_eq!(find("forum"), Found::Some([4, 5].map(Uuid::from_u128).to_vec()));
        assert_eq!(find("nothing"), Found::Some(Vec::new()));
    }

    #[test]
    fn a_reader_sees_the_names_of_its_own_sites() {
        let sites = sites(&[3, 9]);
        assert_eq!(sites.named(), [("Blog", Uuid::from_u128(3))]);
        assert_eq!(sites.name(Uuid::from_u128(1)), None);
        assert_eq!(sites.find("shop", std::iter::empty()), Found::Some(Vec::new()));
        assert_eq!(sites.title(Uuid::from_u128(3)), "Blog");
    }
}
