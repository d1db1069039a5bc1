//! Parameters that take one of a few words.

/// A parameter that takes one of a few words.
pub trait Choice: Copy + PartialEq + 'static {
    /// The words, in the order in which people read them.
    const CHOICES: &'static [(&'static str, Self)];

    /// The word for this value.
    fn name(self) -> &'static str {
        let choice = Self::CHOICES.iter().find(|(_, choice)| *choice == self);
        choice.map_or("", |(name, _)| name)
    }

    /// Finds the value of a word.
    fn from_name(name: &str) -> Option<Self> {
        let choice = Self::CHOICES.iter().find(|(choice, _)| *choice == name);
        choice.map(|(_, choice)| *choice)
    }

    /// Reads a word.
    ///
    /// # Errors
    /// A short phrase that lists the words.
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_name(text).ok_or_else(|| format!("not one of {}", Self::names()))
    }

    /// All words, with commas.
    fn names() -> String {
        let names: Vec<_> = Self::CHOICES.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

impl Choice for chrono::Weekday {
    /// The days on which weeks begin somewhere.
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("monday", chrono::Weekday::Mon),
        ("sunday", chrono::Weekday::Sun),
        ("saturday", chrono::Weekday::Sat),
    ];
}
