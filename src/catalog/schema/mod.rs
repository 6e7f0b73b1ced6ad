//! The steps from an empty file to today's format, one SQL file each, run in order.

use rusqlite::{Connection, TransactionBehavior};

use super::CatalogError;

/// Step `n` leads to format `n + 1`. A step that was released is never changed again.
const STEPS: [&str; 2] = [include_str!("0001.sql"), include_str!("0002.sql")];
/// "Kinc" in `application_id`: another program's database is never taken for ours.
const APPLICATION_ID: i64 = 0x4b69_6e63;

/// Brings a database of any past format to today's.
pub(super) fn upgrade(db: &mut Connection) -> Result<(), CatalogError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let format = usize::try_from(pragma("user_version")?).unwrap_or(usize::MAX);
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && pragma("application_id")? != APPLICATION_ID {
        return Err(CatalogError::Database("the file is a database of another program".into()));
    }
    if format > STEPS.len() {
        let found = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(CatalogError::Newer { found, known: STEPS.len() as u32 });
    }
    for step in &STEPS[format..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", STEPS.len() as u32)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use media::{Epoch, Position, Sequence, ServerTime, StreamName};
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::catalog::{Catalog, SecondPublisher, StreamSettings};

    /// What each format looked like with rows in it, as a dump; frozen.
    const SAMPLES: [&str; 2] =
        [include_str!("../../../tests/data/control-0001.sql"), include_str!("../../../tests/data/control-0002.sql")];

    #[test]
    fn every_past_format_is_read() {
        assert_eq!(SAMPLES.len(), STEPS.len(), "each format keeps a frozen sample");
        for (n, sample) in SAMPLES.iter().enumerate() {
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("control.db");
            Connection::open(&path).unwrap().execute_batch(sample).unwrap();
            let catalog = Catalog::open(&path).unwrap_or_else(|error| panic!("format {}: {error}", n + 1));
            assert_eq!(catalog.next_epoch().unwrap(), Epoch(13));
            let gate = catalog.stream(&StreamName::new("gate").unwrap()).unwrap();
            assert_eq!(gate.settings.retention.max_age, Some(Duration::from_secs(86_400)));
            assert_eq!(gate.settings.on_second_publisher, SecondPublisher::Refuse);
            assert_eq!(gate.settings.tags["site"], "north");
            assert_eq!(gate.retained_from, Some(ServerTime::from_micros(1_790_000_000_000_000)));
            let dropped = Position { epoch: Epoch(11), sequence: Sequence(6_000_000_000) };
            assert_eq!(gate.dropped, (n >= 1).then_some(dropped));
            let credentials = catalog.credentials().unwrap();
            assert_eq!(credentials.iter().map(|found| found.label.as_str()).collect::<Vec<_>>(), ["console"]);
            catalog
                .create_stream(
                    &StreamName::new("yard").unwrap(),
                    StreamSettings::default(),
                    ServerTime::from_micros(1),
                    99,
                )
                .unwrap();
        }
    }

    #[test]
    fn upgraded_schema_equals_a_fresh_one() {
        let schema = |db: &mut Connection| {
            upgrade(db).unwrap();
            let mut statement =
                db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.map(|sql| sql.unwrap()).collect::<Vec<_>>()
        };
        let fresh = schema(&mut Connection::open_in_memory().unwrap());
        for sample in SAMPLES {
            let mut old = Connection::open_in_memory().unwrap();
            old.execute_batch(sample).unwrap();
            assert_eq!(schema(&mut old), fresh);
        }
    }

    #[test]
    fn newer_format_is_refused_with_both_versions_named() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("control.db");
        drop(Catalog::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let Err(refused) = Catalog::open(&path) else { panic!("a newer format was opened") };
        assert_eq!(refused.to_string(), "control.db has format 99, this version knows up to 2");
    }

    #[test]
    fn foreign_database_is_refused_and_left_alone() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("control.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE mail (body TEXT)").unwrap();
        assert!(matches!(Catalog::open(&path), Err(CatalogError::Database(_))));
        let tables: i64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 1);
    }
}
