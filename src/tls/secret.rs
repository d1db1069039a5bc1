//! Passwords that are never shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;

use super::file::read_file;

/// A value that no log line, error or debug output shows.
#[derive(Clone, Default)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_string()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// The value itself, for the one who asks for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where a password comes from.
#[derive(Debug, Clone)]
pub enum Password {
    /// Given with the configuration.
    Given(Secret),
    /// The content of a file, without its final line break.
    File(PathBuf),
}

impl Password {
    /// The password as it is now.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub fn read(&self) -> anyhow::Result<Secret> {
        match self {
            Password::Given(secret) => Ok(secret.clone()),
            Password::File(file) => {
                let name = file.display();
                let bytes = read_file(file).with_context(|| format!("cannot read the password from {name}"))?;
                let text =
                    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("the password in {name} is not UTF-8"))?;
                Ok(Secret(text.trim_end_matches(['\r', '\n']).to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret("swordfish".to_string())), "***");
    }

    #[test]
    fn a_file_is_read_without_its_final_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let password = Password::File(file.path().to_path_buf());
        for (text, meant) in [("a b\n", "a b"), ("x\r\n", "x"), (" y ", " y "), ("", "")] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(password.read().unwrap().reveal(), meant);
        }
    }
}
