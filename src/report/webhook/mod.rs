//! Posts a report to a webhook, such as that of a chat, instead of only printing it.

mod address;
mod delivery;
mod message;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::address::Address;
use self::message::Message;
use super::page::Format;
use super::requirements::Unmet;
use crate::terminal::Size;
use crate::tls::{Tls, read_file};

/// The size of a table in a chat: a code block of this width fits most windows, and together these are about as many
/// characters as a message may have. Rows are left out before totals.
pub const SIZE: Size = Size { columns: 72, lines: 45 };

/// A receiver of the report. Flags alone: a variable that somebody forgot would post what a person only looks at.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Webhook")]
pub struct Args {
    /// File of one https address, such as a chat's webhook, to which the printed report is also posted: with --format
    /// table as a message in JSON, in other formats as it is. The address is a secret, and never shown
    #[arg(long, value_name = "FILE")]
    webhook_url_file: Option<PathBuf>,

    /// Authorities in PEM that may sign the certificate of the webhook [default: the system's]
    #[arg(long, value_name = "FILE", requires = "webhook_url_file")]
    webhook_ca_file: Option<PathBuf>,
}

/// A receiver of reports.
pub struct Webhook {
    address: Address,
    tls: Tls,
}

impl Args {
    /// The receiver, if there is one. Its files are read before anything is asked.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn open(&self) -> anyhow::Result<Option<Webhook>> {
        let Some(file) = &self.webhook_url_file else {
            return Ok(None);
        };
        let address = read_address(file).with_context(|| format!("cannot use the webhook of {}", file.display()))?;
        let tls = Tls {
            ca_file: self.webhook_ca_file.clone(),
            client: None,
        };
        tls.check().context("cannot use --webhook-url-file")?;
        Ok(Some(Webhook { address, tls }))
    }
}

fn read_address(file: &Path) -> anyhow::Result<Address> {
    let bytes = read_file(file).map_err(|err| anyhow::anyhow!(err.to_string().to_lowercase()))?;
    let text = str::from_utf8(&bytes).context("it is not UTF-8")?;
    Address::parse(text).map_err(anyhow::Error::msg)
}

impl Webhook {
    /// Posts a report that was printed. One that is less complete than required is not posted: a later try has better
    /// numbers.
    ///
    /// # Errors
    /// The receiver did not accept it; or `printed`.
    pub async fn post(self, format: Format, report: String, printed: anyhow::Result<()>) -> anyhow::Result<()> {
        if let Err(error) = &printed
            && !matches!(
                error.downcast_ref(),
                Some(Unmet::SolveRate { .. } | Unmet::NoSolveRate { .. })
            )
        {
            return printed;
        }
        let message = Message::new(format, report)?;
        delivery::deliver(&self.address, &self.tls, &message).await?;
        printed
    }
}
