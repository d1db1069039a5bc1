//! The colours of pictures, as CSS of their own: plain values, since not every viewer knows variables.

use super::query::Theme;

struct Palette {
    page: &'static str,
    line: &'static str,
    text: &'static str,
    soft: &'static str,
    solved: &'static str,
    unsolved: &'static str,
    rate: &'static str,
}

/// As the dashboard has them.
const LIGHT: Palette = Palette {
    page: "#ffffff",
    line: "#dfe3e8",
    text: "#1b2330",
    soft: "#5a6575",
    solved: "#2f6fd0",
    unsolved: "#b9cdec",
    rate: "#b4540a",
};

const DARK: Palette = Palette {
    page: "#1a2029",
    line: "#2c3542",
    text: "#e6eaf0",
    soft: "#9aa7b8",
    solved: "#5b95ec",
    unsolved: "#34496b",
    rate: "#f2a45c",
};

/// The style sheet of a theme.
pub fn style(theme: Theme) -> String {
    match theme {
        Theme::Light => rules(&LIGHT),
        Theme::Dark => rules(&DARK),
        Theme::Auto => format!(
            "{}@media (prefers-color-scheme:dark){{{}}}",
            rules(&LIGHT),
            rules(&DARK)
        ),
    }
}

fn rules(palette: &Palette) -> String {
    let Palette {
        page,
        line,
        text,
        soft,
        solved,
        unsolved,
        rate,
    } = palette;
    format!(
        ".page{{fill:{page};stroke:{line}}}text{{fill:{text};font-family:system-ui,-apple-system,'Segoe UI',Roboto,\
         Helvetica,Arial,sans-serif}}.soft{{fill:{soft}}}.grid{{fill:none;stroke:{line}}}.solved{{fill:{solved}}}\
         .unsolved{{fill:{unsolved}}}.pending{{fill:{page};stroke:{solved};stroke-dasharray:3 2}}\
         .partial{{opacity:.5}}.rate{{fill:none;stroke:{rate};stroke-width:2;stroke-linecap:round}}\
         .halo{{stroke:{page};stroke-width:5}}.open{{stroke-dasharray:1 5}}"
    )
}
