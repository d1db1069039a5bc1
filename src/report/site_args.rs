//! Names of sites on the command line.

use std::path::PathBuf;

use uuid::Uuid;

use crate::site_names::SiteNames;

/// Names that an error lists; more fill a screen.
const NAMES_LISTED_MAX: usize = 5;

/// The file of the names of sites.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Output")]
pub struct SitesArgs {
    /// Names of sites, a line each: UUID NAME. The table of a terminal shows them, and --site-id takes them
    #[arg(long, env = "CAPTCHA_SITES_FILE", value_name = "FILE")]
    sites_file: Option<PathBuf>,
}

impl SitesArgs {
    /// Reads the file; without one, no site has a name.
    ///
    /// # Errors
    /// It cannot be read, or one of its lines is wrong.
    pub fn read(&self) -> anyhow::Result<SiteNames> {
        self.sites_file
            .as_ref()
            .map_or_else(|| Ok(SiteNames::default()), |path| SiteNames::read(path))
    }
}

/// The UUID of a site that is given by UUID or name. A UUID is given back as it is, right or wrong, if no site has a
/// name.
///
/// # Errors
/// A phrase that lists what would fit.
pub fn site_id(text: &str, names: &SiteNames) -> Result<String, String> {
    let mut sorted: Vec<(&str, Uuid)> = names.iter().map(|(site_id, name)| (name, site_id)).collect();
    if sorted.is_empty() || Uuid::parse_str(text).is_ok() {
        return Ok(text.to_string());
    }
    sorted.sort_unstable();
    let same: Vec<_> = sorted.iter().filter(|(name, _)| *name == text).collect();
    match same[..] {
        [(_, site_id)] => Ok(site_id.to_string()),
        [] => Err(format!(
            "neither a UUID nor the name of a site; {}",
            similar(text, &sorted)
        )),
        _ => {
            let site_ids = list(same.iter().map(|(_, site_id)| site_id.to_string()));
            Err(format!(
                "several sites have the name {text}; give one of their UUIDs: {site_ids}"
            ))
        }
    }
}

fn similar(text: &str, names: &[(&str, Uuid)]) -> String {
    let wanted = text.to_lowercase();
    let is_similar = |name: &str| {
        let name = name.to_lowercase();
        name.contains(&wanted) || wanted.contains(&name)
    };
    let similar = names.iter().filter(|(name, _)| is_similar(name));
    let similar: Vec<_> = similar.map(|(name, _)| name.to_string()).collect();
    match similar.is_empty() {
        false => format!("similar names: {}", list(similar.into_iter())),
        true => format!("the file has {}", list(names.iter().map(|(name, _)| name.to_string()))),
    }
}

/// The first ones, and the number of the others.
fn list(all: impl ExactSizeIterator<Item = String>) -> String {
    let others = all.len().saturating_sub(NAMES_LISTED_MAX);
    let named: Vec<_> = all.take(NAMES_LISTED_MAX).collect();
    match others {
        0 => named.join(", "),
        others => format!("{} and {others} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> SiteNames {
        let line = |(number, name): (u128, &&str)| format!("{} {name}\n", Uuid::from_u128(number));
        let text: String = (1..).zip(names).map(line).collect();
        SiteNames::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_site_is_a_uuid_or_a_name_that_one_site_has() {
        let names = names(&["Shop", "Blog", "Blog", "Shop (old)"]);
        let one = Uuid::from_u128(1).to_string();
        assert_eq!(site_id("Shop", &names), Ok(one.clone()));
        assert_eq!(site_id(&one, &names), Ok(one.clone()));
        let refused = |text: &str| site_id(text, &names).unwrap_err();
        assert_eq!(
            refused("Blog"),
            "several sites have the name Blog; give one of their UUIDs: 00000000-0000-0000-0000-000000000002, \
             00000000-0000-0000-0000-000000000003"
        );
        assert_eq!(
            refused("shop"),
            "neither a UUID nor the name of a site; similar names: Shop, Shop (old)"
        );
        assert_eq!(
            refused("x"),
            "neither a UUID nor the name of a site; the file has Blog, Blog, Shop, Shop (old)"
        );
        assert_eq!(site_id("x", &SiteNames::default()), Ok("x".to_string()));
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let many: Vec<String> = (1..=8).map(|number| format!("Site {number}")).collect();
        let many = names(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(site_id("x", &many).unwrap_err().ends_with("Site 5 and 3 more"));
    }
}
