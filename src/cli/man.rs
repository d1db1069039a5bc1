//! The manual: a page for the program and one for each of its commands, one after another in one text.

use clap::Command;
use clap_mangen::Man;

use super::examples::{Example, examples};
use super::help::{EXIT_CODES, SETTINGS};

/// The pages in roff, for `man -l -`.
///
/// # Errors
/// Never: they are written to memory.
pub fn pages(command: Command) -> anyhow::Result<String> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    write(&command, "", &mut pages)?;
    Ok(String::from_utf8_lossy(&pages).into_owned())
}

/// Writes the page of a command, which is named by its words, and those of the commands below it.
fn write(command: &Command, words: &str, pages: &mut Vec<u8>) -> std::io::Result<()> {
    let page = Man::new(with_usage(command.clone()));
    page.render_title(pages)?;
    page.render_name_section(pages)?;
    page.render_synopsis_section(pages)?;
    page.render_description_section(pages)?;
    if command.has_subcommands() {
        page.render_subcommands_section(pages)?;
    }
    page.render_options_section(pages)?;
    match words {
        "" => {
            pages.extend(section("ENVIRONMENT", SETTINGS).bytes());
            pages.extend(section("EXIT STATUS", EXIT_CODES).bytes());
        }
        words => pages.extend(examples_section(examples(words)).bytes()),
    }
    for nested in command.get_subcommands() {
        write(nested, format!("{words} {}", nested.get_name()).trim_start(), pages)?;
    }
    Ok(())
}

/// With the short usage of the help in place of a list of all flags.
fn with_usage(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_string();
    command.override_usage(usage)
}

fn section(title: &str, text: &str) -> String {
    format!(".SH \"{title}\"\n{}\n", escape(text))
}

fn examples_section(examples: &[Example]) -> String {
    let example = |example: &Example| {
        let lines = example.lines.iter().map(|line| format!("{}\n", escape(line)));
        // Lines between .nf and .fi stay as they are.
        format!(
            ".PP\n{}:\n.PP\n.nf\n.RS 2\n{}.RE\n.fi\n",
            escape(example.purpose),
            lines.collect::<String>()
        )
    };
    match examples {
        [] => String::new(),
        examples => format!(".SH EXAMPLES\n{}", examples.iter().map(example).collect::<String>()),
    }
}

/// A line of text in roff, where a backslash begins an escape, a hyphen breaks, and a point or a quote at the beginning
/// is a command.
fn escape(line: &str) -> String {
    let escaped = line.replace('\\', "\\[rs]").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let pages = pages(Cli::command()).unwrap();
        for title in [
            "captcha",
            "captcha\\-serve",
            "captcha\\-serve\\-new\\-key",
            "captcha\\-serve\\-keys",
            "captcha\\-consume",
            "captcha\\-migrate",
            "captcha\\-migrate\\-drop\\-months",
            "captcha\\-report",
            "captcha\\-report\\-audit",
            "captcha\\-report\\-dead\\-letters",
        ] {
            assert!(
                pages.lines().any(|line| line
                    .replace("\\-", "-")
                    .starts_with(&format!(".TH {} 1", title.replace("\\-", "-")))),
                "{title}"
            );
        }
        for words in [
            "\ncaptcha report \\-\\-period 7d\n",
            "\ncaptcha serve new\\-key \\-\\-role read \\[rs]\n",
            "CAPTCHA_CLICKHOUSE_PASSWORD_FILE",
            ".SH \"EXIT STATUS\"\n",
        ] {
            assert!(pages.contains(words), "{words}");
        }
    }

    #[test]
    fn text_is_never_a_command_of_roff() {
        assert_eq!(escape(".SH x"), "\\&.SH x");
        assert_eq!(escape("'x' \\n --y"), "\\&'x' \\[rs]n \\-\\-y");
    }
}
