//! The sites of a key.

use std::collections::HashSet;
use std::fmt;

use uuid::Uuid;

use crate::clickhouse::SITE_IDS_MAX;

/// Sites of one key. Its reports name all of them to ClickHouse, 40 bytes each.
const SITES_MAX: usize = 5_000;

const _: () = assert!(SITES_MAX <= SITE_IDS_MAX, "a key reads the report of all its sites");

/// The sites that a key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sites {
    /// Every site, also those to come.
    All,
    /// These and no other; at least one.
    Only(HashSet<Uuid>),
}

impl Sites {
    /// Reads `*` or UUIDs with commas between them.
    ///
    /// # Errors
    /// The format that is expected. The text is not repeated: it may be a secret in the wrong place.
    pub fn parse(text: &str) -> Result<Sites, String> {
        if text == "*" {
            return Ok(Sites::All);
        }
        if text.split(',').count() > SITES_MAX {
            return Err(format!("more than {SITES_MAX} sites; make several keys, or one for *"));
        }
        let sites = text.split(',').enumerate().map(|(index, site)| {
            Uuid::try_parse(site.trim()).map_err(|_| {
                let number = index + 1;
                format!("site {number} is not a UUID; expected * or UUIDs with commas between them")
            })
        });
        sites.collect::<Result<_, _>>().map(Sites::Only)
    }

    /// The sites in order; empty for every site.
    pub fn sorted(&self) -> Vec<Uuid> {
        match self {
            Sites::All => Vec::new(),
            Sites::Only(sites) => {
                let mut sites: Vec<_> = sites.iter().copied().collect();
                sites.sort_unstable();
                sites
            }
        }
    }

    /// Whether the key is for a site.
    pub fn contains(&self, site_id: &Uuid) -> bool {
        match self {
            Sites::All => true,
            Sites::Only(sites) => sites.contains(site_id),
        }
    }
}

impl fmt::Display for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sites::All => f.write_str("*"),
            Sites::Only(_) => {
                let sites: Vec<_> = self.sorted().iter().map(Uuid::to_string).collect();
                f.write_str(&sites.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "6f1c1f2e-3d0b-4c5a-9b0e-2f4b8f3f7a01";
    const OTHER: &str = "0b9c6a52-7d0e-4a7e-8d55-1f2a3b4c5d6e";

    #[test]
    fn sites_are_read_whole_or_not_at_all() {
        let both = Sites::parse(&format!("{SITE},{}", OTHER.to_uppercase())).unwrap();
        assert_eq!(both.to_string(), format!("{OTHER},{SITE}"));
        for text in [
            "",
            ",",
            "all",
            &format!("{SITE},"),
            &format!("{SITE},*"),
            &format!("{SITE};{OTHER}"),
            &SITE[1..],
        ] {
            let refusal = Sites::parse(text).unwrap_err();
            assert!(refusal.contains("is not a UUID"), "{text}: {refusal}");
        }
    }
}
