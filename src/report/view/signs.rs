//! The characters that a page draws with.

/// The characters of a locale.
#[derive(Debug, PartialEq, Eq)]
pub struct Signs {
    /// Ends a text that is cut.
    pub cut: &'static str,
    /// Where nothing can be said.
    pub null: &'static str,
    /// Between rows and totals.
    pub rule: &'static str,
    /// Before a change to more.
    pub up: &'static str,
    /// Before a change to less.
    pub down: &'static str,
    /// One column of a bar.
    pub solved: &'static str,
    pub unsolved: &'static str,
    pub pending: &'static str,
    /// One column of a sparkline, from the lowest to the highest.
    pub levels: &'static [&'static str],
}

pub const UTF8: Signs = Signs {
    cut: "\u{2026}",
    null: "\u{2013}",
    rule: "\u{2500}",
    up: "\u{2191}",
    down: "\u{2193}",
    solved: "\u{2501}",
    unsolved: "\u{2500}",
    pending: "\u{254c}",
    levels: &[
        "\u{2581}", "\u{2582}", "\u{2583}", "\u{2584}", "\u{2585}", "\u{2586}", "\u{2587}", "\u{2588}",
    ],
};

pub const ASCII: Signs = Signs {
    cut: "...",
    null: "-",
    rule: "-",
    up: "+",
    down: "-",
    solved: "=",
    unsolved: "-",
    pending: ".",
    levels: &["_", ".", "-", "=", "*", "#"],
};
