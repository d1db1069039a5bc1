//! Projections for rows that were stored before a migration added them: begun here, and made by ClickHouse meanwhile.

use super::lock::under_lock;
use super::output::print_line;
use crate::clickhouse::schema::files::VERSION;
use crate::clickhouse::schema::projections::{ProjectionRows, is_materializing};
use crate::clickhouse::{Connection, Shard};

/// Begins to make the projections that rows lack, unless that is under way, or prints that it would. Returns whether
/// there was anything to do.
///
/// # Errors
/// No answer, or no right to.
pub async fn materialize(shard: &Shard, dry_run: bool) -> anyhow::Result<bool> {
    let connection = shard.connect().await?;
    let lacking = lacking(&connection).await?;
    if dry_run {
        lacking.iter().for_each(|lacking| print("would make", lacking));
    }
    if dry_run || lacking.is_empty() {
        return Ok(!lacking.is_empty());
    }
    under_lock(shard, &connection, async |_| {
        // Another process may have had the lock before.
        let lacking = self::lacking(&connection).await?;
        if lacking.is_empty() {
            return Ok(false);
        }
        let names: Vec<_> = lacking.iter().map(|lacking| lacking.name.as_str()).collect();
        connection.materialize_projections(&names).await?;
        lacking.iter().for_each(|lacking| print("making", lacking));
        print_line(format_args!(
            "clickhouse makes them in the background; reports are right meanwhile, and fast afterwards; \
             `captcha migrate --status` shows how far it is"
        ));
        Ok(true)
    })
    .await
}

/// Those that some rows lack and that are not being made.
async fn lacking(connection: &Connection) -> anyhow::Result<Vec<ProjectionRows>> {
    let mut lacking = connection.projection_rows(VERSION).await?;
    lacking.retain(|projection| projection.rows < projection.of);
    if lacking.is_empty() {
        return Ok(lacking);
    }
    let mut running = connection.running_mutations().await?;
    running.retain(|mutation| mutation.table == "events" && is_materializing(&mutation.command));
    lacking.retain(|projection| {
        let is_named = |command: &str| command.split([' ', '(', ')', '`']).any(|word| word == projection.name);
        !running.iter().any(|mutation| is_named(&mutation.command))
    });
    Ok(lacking)
}

fn print(verb: &str, lacking: &ProjectionRows) {
    let ProjectionRows { name, rows, of } = lacking;
    print_line(format_args!(
        "{verb} projection {name} of older rows: {} of {of} rows lack it",
        of - rows
    ));
}

/// Prints how many rows have each projection, and why ClickHouse does not get on with the others.
///
/// # Errors
/// No answer.
pub async fn print_status(shard: &Shard, version: u32) -> anyhow::Result<()> {
    let connection = shard.connect().await?;
    for ProjectionRows { name, rows, of } in connection.projection_rows(version).await? {
        print_line(format_args!("projection {name}  in {rows} of {of} rows"));
    }
    let running = connection.running_mutations().await?;
    let making = running.iter().filter(|mutation| is_materializing(&mutation.command));
    for failed in making.filter(|mutation| !mutation.failure.is_empty()) {
        print_line(format_args!("cannot {} yet: {}", failed.command, failed.failure));
    }
    Ok(())
}
