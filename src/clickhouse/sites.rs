//! Which of some sites have any event.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use uuid::Uuid;

use super::counts::expressions::{SERVED, SOLVED};
use super::{Cluster, Connection, Error};

/// Sites of one query: 12 kB of SQL, which every ClickHouse takes.
const SITES_AT_ONCE: usize = 300;

impl Cluster {
    /// Those of these sites that have no event on any day, in the given order.
    ///
    /// # Errors
    /// A shard does not answer, or has no schema that fits.
    pub async fn sites_without_events(&self, mut site_ids: Vec<Uuid>) -> Result<Vec<Uuid>, Error> {
        if site_ids.is_empty() {
            return Ok(site_ids);
        }
        let asked = &site_ids;
        let answers = self.iter().map(async |shard| {
            let connection = shard.connect_to_schema().await?;
            connection.sites_with_events(asked).await
        });
        let known: HashSet<Uuid> = try_join_all(answers).await?.into_iter().flatten().collect();
        site_ids.retain(|site_id| !known.contains(site_id));
        Ok(site_ids)
    }
}

impl Connection {
    /// Those of these sites that have an event in this shard, from the projection `days`.
    async fn sites_with_events(&self, site_ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
        let mut known = Vec::new();
        for some in site_ids.chunks(SITES_AT_ONCE) {
            let some: Vec<String> = some.iter().map(|site_id| format!("'{site_id}'")).collect();
            let sql = format!(
                "SELECT site_id FROM events WHERE site_id IN ({}) GROUP BY site_id HAVING {SERVED} + {SOLVED} > 0",
                some.join(", ")
            );
            known.extend(self.query_values::<Uuid>(&sql).await?);
        }
        Ok(known)
    }
}
