//! `captcha report` in a pipe: rows on stdout, everything else on stderr, and the exit codes of what is required.

use crate::client::{SITE, accept, events};
use crate::complete_through::{await_complete_through, now};
use crate::world::World;

/// Runs `captcha report`: exit code, stdout, and the lines of stderr.
async fn report(world: &World, args: &[&str]) -> (i32, String, Vec<String>) {
    let output = world.run(&[&["report"], args].concat()).await;
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    let lines = stderr.lines().map(str::to_string).collect();
    (output.status.code().unwrap(), stdout, lines)
}

#[tokio::test]
async fn sites_without_any_event_are_named_and_rows_are_alone_on_stdout() {
    let world = World::new("unknown_sites");
    let (serve, _consume) = world.all().await;
    accept(&serve.address, &events(3)).await;
    world.await_counted(3).await;
    await_complete_through(&world, now(&world).await).await;
    let row = format!("2024-02-29  {SITE}       3       0\n");

    let (code, stdout, stderr) = report(&world, &[]).await;
    assert_eq!((code, stdout.lines().count()), (0, 2), "{stdout}");
    assert!(stdout.ends_with(&row), "{stdout}");
    assert_eq!(stderr.len(), 1, "{stderr:?}");
    assert!(stderr[0].starts_with("captcha: complete through 20"), "{stderr:?}");

    // The site has events, and none on these days.
    let unknown = "00000000-0000-4000-8000-00000000000";
    let sites: Vec<_> = (0..8).map(|number| format!("--site-id={unknown}{number}")).collect();
    let known = format!("--site-id={SITE}");
    let mut args = vec!["--format", "csv", "--from", "2025-01-01", &known];
    args.extend(sites.iter().map(String::as_str));
    args.push(&sites[0]);
    let (code, stdout, stderr) = report(&world, &args).await;
    assert_eq!((code, stdout.as_str()), (0, "date,site_id,served,solved\n"));
    assert!(stderr[0].starts_with("captcha: complete through 20"), "{stderr:?}");
    let mut wanted: Vec<_> = (0..5)
        .map(|number| format!("captcha: site {unknown}{number} has no events"))
        .collect();
    wanted.push("captcha: 3 more sites have no events".to_string());
    assert_eq!(stderr[1..], wanted);

    let (code, stdout, stderr) = report(&world, &["--format", "json", &known, &sites[7]]).await;
    assert_eq!(code, 0);
    assert!(
        stdout.contains("\"served\":3") && stdout.contains("\"complete_through\":\"20"),
        "{stdout}"
    );
    assert_eq!(stderr, [format!("captcha: site {unknown}7 has no events")]);
}

#[tokio::test]
async fn a_report_that_is_not_as_complete_as_required_has_an_exit_code_of_its_own() {
    let world = World::new("required");
    world.migrate(&[]).await;
    let required = |moment: &'static str| ["--require-complete-through", moment];
    let (code, stdout, stderr) = report(&world, &required("now-5m")).await;
    assert_eq!((code, stderr.len()), (4, 1), "{stderr:?}");
    assert!(
        stderr[0].starts_with("captcha: the report is not known to be complete, and "),
        "{stderr:?}"
    );
    assert_eq!(stdout.lines().count(), 1, "the rows are there all the same: {stdout}");

    let _consume = world.consume(&[]).await;
    await_complete_through(&world, now(&world).await).await;
    for moment in ["now-5m", "2020-01-01T00:00:00Z"] {
        let (code, _, stderr) = report(&world, &required(moment)).await;
        assert_eq!(code, 0, "{moment}: {stderr:?}");
    }
    // A watermark is a second old at least.
    for moment in ["now", "2199-01-01T00:00:00+02:00"] {
        let (code, _, stderr) = report(&world, &required(moment)).await;
        assert_eq!((code, stderr.len()), (4, 1), "{moment}: {stderr:?}");
        assert!(
            stderr[0].starts_with("captcha: the report is complete through 20"),
            "{stderr:?}"
        );
    }
    let (code, _, stderr) = report(&world, &required("yesterday")).await;
    assert_eq!(code, 2, "{stderr:?}");
}
