//! `captcha report` on a terminal: a page that fits it, colours, names of sites, `--watch` and progress.

use std::io::Write as _;
use std::process::Command;

use rustix::process::Signal;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::client::{SITE, accept, events};
use crate::complete_through::{await_complete_through, now};
use crate::pty::Terminal;
use crate::world::World;

const ESCAPE: char = '\u{1b}';

/// Runs a command on a terminal to its end.
async fn shown(command: Command, columns: u16) -> String {
    let mut terminal = Terminal::start(command, columns, 24);
    let status = terminal.ended().await;
    assert!(status.success(), "{}", terminal.text());
    terminal.text()
}

/// A page without its styles.
fn plain(page: &str) -> String {
    let mut plain = String::new();
    for (index, part) in page.split(ESCAPE).enumerate() {
        plain += if index == 0 {
            part
        } else {
            part.split_once('m').unwrap().1
        };
    }
    plain
}

#[tokio::test]
async fn a_terminal_has_a_page_that_fits_and_a_pipe_has_rows_alone() {
    let world = World::new("pages");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(1_234)).await;
    world.await_counted(1_234).await;
    await_complete_through(&world, now(&world).await).await;

    for columns in [60, 80, 160] {
        let page = plain(&shown(world.command(&["report"]), columns).await);
        assert!(page.contains("1,234") && page.contains("solve rate"), "{page}");
        assert!(page.contains("every event confirmed before 20"), "{page}");
        let widest = page.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns.into(), "{widest}: {page}");
    }

    // What a script reads does not depend on any variable.
    let row = format!(
        "date        site_id                               served  solved\n2024-02-29  {SITE}    1234       0\n"
    );
    for variable in ["CLICOLOR_FORCE", "NO_COLOR", "COLUMNS", "LANG"] {
        let mut command = world.command(&["report"]);
        command.env(variable, "1");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), row, "{variable}");
    }
    let forced = world.ok(&["report", "--color", "always"]).await;
    assert!(forced.contains(ESCAPE) && forced.contains("1,234"), "{forced}");

    for (variable, flag, has_styles) in [
        ("X", "auto", true),
        ("NO_COLOR", "auto", false),
        ("NO_COLOR", "always", true),
        ("CLICOLOR_FORCE", "never", false),
    ] {
        let mut command = world.command(&["report", "--color", flag]);
        command.env(variable, "1");
        let page = shown(command, 80).await;
        assert_eq!(page.contains(ESCAPE), has_styles, "{variable} {flag}: {page}");
    }
    let mut command = world.command(&["report"]);
    command.env("LC_ALL", "C");
    let page = shown(command, 80).await;
    assert!(page.is_ascii(), "{page}");

    let empty = plain(&shown(world.command(&["report", "--period", "7d"]), 80).await);
    assert!(empty.starts_with("no events match\nlast 7 days, "), "{empty}");
    assert!(
        empty.ends_with("the newest day with events is 2024-02-29: ask with `--from 2024-02-29`\n"),
        "{empty}"
    );
}

#[tokio::test]
async fn sites_have_names_on_a_terminal_and_may_be_asked_for_by_name() {
    let world = World::new("site_names");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // The mark would turn the direction of what follows.
    writeln!(file, "{SITE} Shop\u{202e}\n00000000-0000-4000-8000-000000000001 Blog").unwrap();
    let file = file.path().to_str().unwrap();

    let page = plain(&shown(world.command(&["report", "--sites-file", file]), 80).await);
    assert!(page.starts_with(&format!("Shop\\u202e  {SITE}\n")), "{page}");
    let rows = world.ok(&["report", "--sites-file", file]).await;
    assert!(rows.contains(SITE) && !rows.contains("Shop"), "{rows}");

    let mut command = world.command(&["report", "--format", "csv", "--site-id", "Shop\u{202e}"]);
    command.env("CAPTCHA_SITES_FILE", file);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let csv = String::from_utf8(output.stdout).unwrap();
    assert_eq!(csv, format!("date,site_id,served,solved\n2024-02-29,{SITE},3,0\n"));

    let unknown = world.run(&["report", "--sites-file", file, "--site-id", "blog"]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(unknown.stderr).unwrap(),
        "error: --site-id: neither a UUID nor the name of a site; similar names: Blog\n"
    );
    let missing = world.refused(&["report", "--sites-file", "/nowhere/sites"]).await;
    assert!(
        missing.starts_with("captcha: cannot load the names of sites of /nowhere/sites"),
        "{missing}"
    );
}

/// Forwards connections to a server until it is dropped, with all of them.
struct Relay {
    address: String,
    connections: tokio::task::JoinHandle<()>,
}

impl Relay {
    async fn to(server: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_string();
        let connections = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            loop {
                let (mut inside, _) = listener.accept().await.unwrap();
                let mut outside = TcpStream::connect(&server).await.unwrap();
                all.spawn(async move { copy_bidirectional(&mut inside, &mut outside).await });
            }
        });
        Relay { address, connections }
    }
}

#[tokio::test]
async fn a_watched_report_follows_the_numbers_the_window_and_failures_until_it_is_stopped() {
    let world = World::new("watched");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    let relay = Relay::to(&world.clickhouse).await;
    let watching = world.beside(&relay.address);
    let mut terminal = Terminal::start(watching.command(&["report", "--watch=1", "--color", "never"]), 80, 24);
    terminal
        .await_page("the first page", |page| page.contains("every 1 s; Ctrl-C stops"))
        .await;
    let has_served = |number: &'static str| move |page: &str| page.lines().any(|line| line.contains(number));
    terminal.await_page("three events", has_served("       3  ")).await;

    accept(&serve.address, &events(1_231)).await;
    terminal.await_page("more events", has_served("   1,234  ")).await;
    terminal.resize(50, 10);
    terminal
        .await_page("a page for the smaller window", |page| {
            page.lines().count() <= 9 && page.lines().all(|line| line.chars().count() <= 50)
        })
        .await;
    terminal.resize(80, 24);

    relay.connections.abort();
    terminal
        .await_page("the reason of a failure below the last numbers", |page| {
            page.contains("1,234")
                && page.contains("refreshing has failed since ")
                && page.contains("these numbers are from ")
        })
        .await;

    terminal.signal(Signal::INT);
    let status = terminal.ended().await;
    assert_eq!(status.code(), Some(130), "{}", terminal.text());
    assert!(!terminal.text().contains("stopped by"), "{}", terminal.page());
    // No mode of the terminal was set: neither the other screen nor a hidden cursor.
    assert!(!terminal.text().contains("\u{1b}[?"), "{}", terminal.text());
}

#[tokio::test]
async fn a_report_is_watched_only_as_a_table_of_clickhouse_on_a_terminal() {
    let world = World::on("unwatched", "127.0.0.1:1", "127.0.0.1:1");
    let refused = async |args: &[&str]| {
        let output = world.run(&[&["report", "--watch"], args].concat()).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        refused(&[])
            .await
            .starts_with("error: --watch: needs a terminal as stdout")
    );
    assert!(
        refused(&["--format", "csv"])
            .await
            .starts_with("error: --watch: shows a table")
    );
    assert!(
        refused(&["--input", "x"])
            .await
            .contains("cannot be used with '--input <FILE>'")
    );
    let required = refused(&["--require-solve-rate", "0.5"]).await;
    assert!(required.contains("cannot be used with"), "{required}");

    // The first question fails as without --watch.
    let mut terminal = Terminal::start(world.command(&["report", "--watch"]), 80, 24);
    assert_eq!(terminal.ended().await.code(), Some(1));
    let text = terminal.text();
    assert!(text.starts_with("captcha: cannot connect to clickhouse"), "{text}");
}

#[tokio::test]
async fn a_question_that_takes_long_says_so_until_it_ends() {
    // Accepts connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::on("slow", "127.0.0.1:1", &silent.local_addr().unwrap().to_string());
    let mut terminal = Terminal::start(world.command(&["report", "--format", "csv"]), 80, 24);
    assert_eq!(terminal.ended().await.code(), Some(1));
    let text = terminal.text();
    assert!(text.contains("\rasking ClickHouse, 1 s ...\u{1b}[K\r"), "{text:?}");
    let (_, last) = text.rsplit_once("\r\u{1b}[K").unwrap();
    assert!(last.starts_with("captcha: clickhouse at "), "{text:?}");
    let piped = world.refused(&["report"]).await;
    assert!(!piped.contains("asking"), "{piped}");
}
