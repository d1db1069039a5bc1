//! What a shell asks of the executable: completions, the manual, help, and tips for what is called something else.

use std::io::Read as _;
use std::process::{Command, Output, Stdio};

use crate::world::World;

fn world(name: &str) -> World {
    // No server is asked.
    World::on(name, "127.0.0.1:1", "127.0.0.1:1")
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn completions_and_the_manual_are_printed() {
    let world = world("shell_pages");
    for (words, part) in [
        (&["--completions", "bash"][..], "complete -F _captcha"),
        (&["--completions", "zsh"], "#compdef captcha"),
        (&["--completions", "fish"], "complete -c captcha"),
        (
            &["--completions", "elvish"],
            "set edit:completion:arg-completer[captcha]",
        ),
        (&["--completions", "powershell"], "Register-ArgumentCompleter"),
        (&["--man"], ".TH captcha 1"),
    ] {
        let output = run(world.command(words));
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(stdout(&output).contains(part), "{words:?}");
        assert!(output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn a_reader_may_close_the_manual_early() {
    let mut command = world("shell_pipe").command(&["--man"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn bash_completes_commands_flags_and_words() {
    let script = stdout(&run(world("shell_bash").command(&["--completions", "bash"])));
    for (line, completed) in [
        (&["rep"][..], "report"),
        (&["report", "de"], "dead-letters"),
        (&["report", "--sol"], "--solve-within"),
        (&["report", "--period", "last"], "last_month"),
        (&["report", "--interval", "ho"], "hour"),
        (&["report", "--compare", "year"], "year_over_year"),
        (&["report", "--timezone", "Europe/Berl"], "Europe/Berlin"),
        (&["report", "--format", "nd"], "ndjson"),
        (&["serve", "--kafka-sasl-mechanism", "scram-sha-2"], "scram-sha-256"),
        (&["--comp"], "--completions"),
    ] {
        let (last, before) = line.split_last().unwrap();
        let previous = before.last().copied().unwrap_or("captcha");
        let words = line.join(" ");
        // `complete` with `-o nosort` is of bash 4.4 and newer.
        let asked = format!(
            "{script}\nCOMP_WORDS=(captcha {words}); COMP_CWORD={}; _captcha captcha '{last}' '{previous}'\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len()
        );
        let output = run({
            let mut bash = Command::new("bash");
            bash.args(["--noprofile", "--norc", "-c", &asked]);
            bash
        });
        assert_eq!(stdout(&output).trim(), completed, "{line:?}: {output:?}");
    }
}

#[test]
fn a_short_help_has_no_variables_and_a_long_one_has() {
    let world = world("shell_help");
    let short = stdout(&run(world.command(&["serve", "-h"])));
    let long = stdout(&run(world.command(&["serve", "--help"])));
    assert!(
        !short.contains("[env:") && short.contains("captcha serve --help"),
        "{short}"
    );
    for heading in [
        "\nTLS:\n",
        "\nAccess:\n",
        "\nProxies:\n",
        "\nLimits:\n",
        "\nKafka:\n",
        "\nClickHouse TLS:\n",
    ] {
        assert!(long.contains(heading), "{heading}: {long}");
    }
    assert!(long.contains("[env: CAPTCHA_LISTEN"), "{long}");
}

#[test]
fn a_word_of_another_program_has_a_tip_and_exit_code_2() {
    let world = world("shell_tips");
    for (words, tip) in [
        (&["audit"][..], "tip: `captcha report audit`"),
        (&["report", "--since", "7d"], "tip: --from, or --period"),
        (&["report", "--json"], "tip: --format json"),
    ] {
        let output = run(world.command(words));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(tip), "{words:?}: {said}");
    }
}
