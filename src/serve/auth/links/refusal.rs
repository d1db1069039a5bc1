//! Why a link is refused: 403.

use std::fmt;

use crate::serve::auth::keys::{Denied, Expiry};

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkRefusal {
    /// This server has no secret for links.
    NotTaken,
    /// The signature is of something else, or by a secret that is not in force. The sender does not learn which.
    Invalid,
    /// The link was valid until then.
    Expired(Expiry),
    /// The link is valid, and its key is not.
    Key(Denied),
}

impl fmt::Display for LinkRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkRefusal::NotTaken => f.write_str("this server takes no signed links; serve needs --link-secret-file"),
            LinkRefusal::Invalid => f.write_str(
                "this link is not valid: a part of it was changed, or its secret is no longer in force; make a new one \
                 with `captcha serve new-link`",
            ),
            LinkRefusal::Expired(expiry) => write!(
                f,
                "this link expired at {expiry} (UTC); make a new one with `captcha serve new-link`"
            ),
            LinkRefusal::Key(Denied::Expired(expiry)) => write!(
                f,
                "the key of this link expired at {expiry} (UTC); make a link with another key"
            ),
            LinkRefusal::Key(_) => f.write_str("the key of this link was withdrawn; make a link with another key"),
        }
    }
}
