//! Rows of streams.

use std::collections::BTreeMap;
use std::time::Duration;

use media::{Epoch, Position, Sequence, ServerTime, StreamId, StreamName};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Catalog, CatalogError, ProducerClock, Retention, SecondPublisher, Stream, StreamSettings, TENANT};

const SELECT: &str =
    "SELECT stream_id, name, created_us, settings, retained_from_us, dropped_epoch, dropped_sequence FROM stream";

/// Settings as they are stored. A field that is missing has its default, so that old rows can be read.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct StoredSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    on_second_publisher: SecondPublisher,
    producer_clock: ProducerClock,
    tags: BTreeMap<String, String>,
}

fn to_json(settings: &StreamSettings) -> Result<String, CatalogError> {
    let stored = StoredSettings {
        max_age_us: settings.retention.max_age.map(|age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX)),
        max_bytes: settings.retention.max_bytes,
        on_second_publisher: settings.on_second_publisher,
        producer_clock: settings.producer_clock,
        tags: settings.tags.clone(),
    };
    serde_json::to_string(&stored).map_err(|error| CatalogError::Database(format!("write settings: {error}")))
}

fn from_json(text: &str) -> Result<StreamSettings, CatalogError> {
    let stored: StoredSettings =
        serde_json::from_str(text).map_err(|error| CatalogError::Database(format!("read settings: {error}")))?;
    Ok(StreamSettings {
        retention: Retention { max_age: stored.max_age_us.map(Duration::from_micros), max_bytes: stored.max_bytes },
        on_second_publisher: stored.on_second_publisher,
        producer_clock: stored.producer_clock,
        tags: stored.tags,
    })
}

fn read_row(row: &Row<'_>) -> Result<Stream, CatalogError> {
    let id: [u8; 16] = row.get(0)?;
    let name: String = row.get(1)?;
    let name = StreamName::new(&name).map_err(|error| CatalogError::Database(format!("stream {name:?}: {error}")))?;
    Ok(Stream {
        id: StreamId(Uuid::from_bytes(id)),
        name,
        created: ServerTime::from_micros(row.get(2)?),
        settings: from_json(&row.get::<_, String>(3)?)?,
        retained_from: row.get::<_, Option<i64>>(4)?.map(ServerTime::from_micros),
        dropped: read_dropped(row, 5)?,
    })
}

/// The position in two columns, the first of which is `column`.
fn read_dropped(row: &Row<'_>, column: usize) -> Result<Option<Position>, CatalogError> {
    let (Some(epoch), Some(sequence)) = (row.get::<_, Option<u32>>(column)?, row.get::<_, Option<i64>>(column + 1)?)
    else {
        return Ok(None);
    };
    let sequence = u64::try_from(sequence).map_err(|_| CatalogError::Database("a sequence below 0".into()))?;
    Ok(Some(Position { epoch: Epoch(epoch), sequence: Sequence(sequence) }))
}

/// A sequence as a column holds it; one beyond that was never given out.
fn column(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}

/// Every stream there is.
pub(super) fn all(db: &Connection) -> Result<Vec<Stream>, CatalogError> {
    let mut statement = db.prepare(&format!("{SELECT} WHERE tenant_id = ?1"))?;
    let mut rows = statement.query(params![TENANT])?;
    let mut streams = Vec::new();
    while let Some(row) = rows.next()? {
        streams.push(read_row(row)?);
    }
    Ok(streams)
}

pub(super) fn by_id(db: &Connection, id: StreamId) -> Result<Option<Stream>, CatalogError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE tenant_id = ?1 AND stream_id = ?2"))?;
    let mut rows = statement.query(params![TENANT, id.0.as_bytes()])?;
    rows.next()?.map(read_row).transpose()
}

/// Inserts a stream; `Exists` when its name or id is taken.
fn insert(db: &Connection, stream: &Stream) -> Result<(), CatalogError> {
    let inserted = db
        .prepare_cached(
            "INSERT INTO stream (tenant_id, stream_id, name, created_us, settings, retained_from_us, dropped_epoch,
                 dropped_sequence)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            TENANT,
            stream.id.0.as_bytes(),
            stream.name.as_str(),
            stream.created.micros(),
            to_json(&stream.settings)?,
            stream.retained_from.map(ServerTime::micros),
            stream.dropped.map(|dropped| dropped.epoch.0),
            stream.dropped.map(|dropped| column(dropped.sequence)),
        ])?;
    if inserted == 1 { Ok(()) } else { Err(CatalogError::Exists(stream.name.clone())) }
}

impl Catalog {
    /// Makes a stream with a new id, when there are fewer than `most`: every way to make one comes through here.
    ///
    /// # Errors
    /// [`CatalogError::Exists`] when the name is taken, [`CatalogError::TooManyStreams`] beyond `most`.
    pub(crate) fn create_stream(
        &self,
        name: &StreamName,
        settings: StreamSettings,
        now: ServerTime,
        most: usize,
    ) -> Result<Stream, CatalogError> {
        settings.check().map_err(CatalogError::BadSettings)?;
        let (id, name) = (StreamId::random(), name.clone());
        let stream = Stream { id, name, created: now, settings, retained_from: None, dropped: None };
        self.write_stream(id, |db| {
            // First: who asks for a stream that is there is told so, however many there are.
            insert(db, &stream)?;
            let count: i64 = db
                .prepare_cached("SELECT count(*) FROM stream WHERE tenant_id = ?1")?
                .query_row(params![TENANT], |row| row.get(0))?;
            let fits = usize::try_from(count).is_ok_and(|count| count <= most);
            if fits { Ok(()) } else { Err(CatalogError::TooManyStreams(most)) }
        })?;
        Ok(stream)
    }

    /// Puts back a stream whose folder was found without a row (a lost `control.db`). Does nothing when its id has a row.
    ///
    /// # Errors
    /// [`CatalogError::Exists`] when the name belongs to another stream.
    pub(crate) fn adopt_stream(&self, stream: &Stream) -> Result<(), CatalogError> {
        let adopted = self.write_stream(stream.id, |db| match by_id(db, stream.id)? {
            Some(_) => Ok(()),
            None => insert(db, stream),
        });
        adopted.map(drop)
    }

    /// Changes a stream's settings from what they are, in one transaction: two changes at once are both made. Settings that `change`
    /// fails on, or leaves wrong, stay as they were.
    ///
    /// # Errors
    /// That of `change`; [`CatalogError::BadSettings`]; [`CatalogError::NoStream`].
    pub(crate) fn update_stream(
        &self,
        id: StreamId,
        change: impl FnOnce(&mut StreamSettings) -> Result<(), CatalogError>,
    ) -> Result<Stream, CatalogError> {
        let updated = self.write_stream(id, |db| {
            let mut settings = by_id(db, id)?.ok_or(CatalogError::NoStream)?.settings;
            change(&mut settings)?;
            settings.check().map_err(CatalogError::BadSettings)?;
            let json = to_json(&settings)?;
            db.prepare_cached("UPDATE stream SET settings = ?3 WHERE tenant_id = ?1 AND stream_id = ?2")?
                .execute(params![TENANT, id.0.as_bytes(), json])?;
            Ok(())
        });
        updated?.ok_or(CatalogError::NoStream)
    }

    /// Says that what lies in blocks that end at or before `dropped` is not kept, and with it nothing before `from`. Neither
    /// ever goes back: what was given up stays given up.
    pub(crate) fn set_retained_from(
        &self,
        id: StreamId,
        from: ServerTime,
        dropped: Position,
    ) -> Result<(), CatalogError> {
        let set = self.write_stream(id, |db| {
            let stream = by_id(db, id)?.ok_or(CatalogError::NoStream)?;
            let from = stream.retained_from.map_or(from, |kept| kept.max(from));
            let dropped = stream.dropped.map_or(dropped, |kept| kept.max(dropped));
            db.prepare_cached(
                "UPDATE stream SET retained_from_us = ?3, dropped_epoch = ?4, dropped_sequence = ?5
                 WHERE tenant_id = ?1 AND stream_id = ?2",
            )?
            .execute(params![
                TENANT,
                id.0.as_bytes(),
                from.micros(),
                dropped.epoch.0,
                column(dropped.sequence)
            ])?;
            Ok(())
        });
        set.map(drop)
    }

    /// Forgets a stream.
    pub(crate) fn delete_stream(&self, id: StreamId) -> Result<(), CatalogError> {
        let deleted = self.write_stream(id, |db| {
            let deleted = db
                .prepare_cached("DELETE FROM stream WHERE tenant_id = ?1 AND stream_id = ?2")?
                .execute(params![TENANT, id.0.as_bytes()])?;
            if deleted == 1 { Ok(()) } else { Err(CatalogError::NoStream) }
        });
        deleted.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::fresh;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).unwrap()
    }

    const NOW: ServerTime = ServerTime::from_micros(1_790_000_000_000_001);

    fn settings() -> StreamSettings {
        StreamSettings {
            retention: Retention { max_age: Some(Duration::from_micros(90_000_001)), max_bytes: Some(u64::MAX) },
            on_second_publisher: SecondPublisher::Takeover,
            producer_clock: ProducerClock::Arrival,
            tags: BTreeMap::from([("site".to_owned(), "\"north\" \\ 北".to_owned())]),
        }
    }

    #[test]
    fn stream_comes_back_with_its_settings_after_a_restart() {
        let (folder, catalog) = fresh();
        let gate = catalog.create_stream(&name("gate"), settings(), NOW, 99).unwrap();
        assert!(matches!(catalog.create_stream(&name("gate"), settings(), NOW, 99), Err(CatalogError::Exists(_))));
        catalog.create_stream(&name("Gate"), StreamSettings::default(), NOW, 99).unwrap();
        drop(catalog);
        let catalog = Catalog::open(&folder.path().join("control.db")).unwrap();
        assert_eq!(catalog.stream(&name("gate")), Some(gate.clone()));
        assert_eq!(catalog.stream_by_id(gate.id), Some(gate.clone()));
        let to_default = |settings: &mut StreamSettings| {
            *settings = StreamSettings::default();
            Ok(())
        };
        let updated = catalog.update_stream(gate.id, to_default).unwrap();
        assert_eq!(updated, Stream { settings: StreamSettings::default(), ..gate });
        catalog.delete_stream(gate.id).unwrap();
        assert_eq!(catalog.stream(&name("gate")), None);
        assert!(matches!(catalog.delete_stream(gate.id), Err(CatalogError::NoStream)));
        assert!(matches!(catalog.update_stream(gate.id, to_default), Err(CatalogError::NoStream)));
        assert!(matches!(catalog.set_retained_from(gate.id, NOW, Position::default()), Err(CatalogError::NoStream)));
    }

    #[test]
    fn changes_made_at_once_are_all_there_and_a_wrong_one_changes_nothing() {
        let (_folder, catalog) = fresh();
        let gate = catalog.create_stream(&name("gate"), StreamSettings::default(), NOW, 99).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let catalog = &catalog;
                scope.spawn(move || {
                    let add = |settings: &mut StreamSettings| {
                        settings.tags.insert(format!("tag{number}"), String::new());
                        Ok(())
                    };
                    catalog.update_stream(gate.id, add).unwrap();
                });
            }
        });
        let changed = catalog.stream_by_id(gate.id).unwrap();
        assert_eq!(changed.settings.tags.len(), 8);
        let wrong = [
            StreamSettings { retention: Retention { max_bytes: Some(0), max_age: None }, ..StreamSettings::default() },
            StreamSettings {
                retention: Retention { max_bytes: None, max_age: Some(Duration::from_millis(999)) },
                ..StreamSettings::default()
            },
            StreamSettings { tags: BTreeMap::from([(String::new(), String::new())]), ..StreamSettings::default() },
        ];
        for wrong in wrong {
            let made = catalog.create_stream(&name("yard"), wrong.clone(), NOW, 99);
            assert!(matches!(made, Err(CatalogError::BadSettings(_))), "{wrong:?}");
            let set = |settings: &mut StreamSettings| {
                *settings = wrong.clone();
                Ok(())
            };
            assert!(matches!(catalog.update_stream(gate.id, set), Err(CatalogError::BadSettings(_))), "{wrong:?}");
        }
        assert_eq!((catalog.stream(&name("yard")), catalog.stream_by_id(gate.id)), (None, Some(changed)));
    }

    #[test]
    fn no_more_streams_than_allowed_are_made() {
        let (_folder, catalog) = fresh();
        let make = |text: &str, most| catalog.create_stream(&name(text), settings(), NOW, most);
        make("gate", 2).unwrap();
        let yard = make("yard", 2).unwrap();
        assert!(matches!(make("door", 2), Err(CatalogError::TooManyStreams(2))));
        assert!(matches!(make("yard", 2), Err(CatalogError::Exists(_))), "it is there, whatever the limit");
        assert_eq!(catalog.stream(&name("door")), None);
        make("door", 3).unwrap();
        catalog.delete_stream(yard.id).unwrap();
        assert!(matches!(make("shed", 2), Err(CatalogError::TooManyStreams(2))), "a limit may be lowered meanwhile");
        make("shed", 3).unwrap();
    }

    #[test]
    fn retained_from_never_goes_back() {
        let (_folder, catalog) = fresh();
        let gate = catalog.create_stream(&name("gate"), settings(), NOW, 99).unwrap();
        assert_eq!(gate.retained_from, None);
        let at = |epoch, sequence| Position { epoch: Epoch(epoch), sequence: Sequence(sequence) };
        // A clock that stands still does not keep the position from going on, nor the other way round.
        for (set, kept) in [
            ((5, at(1, 70)), (5, at(1, 70))),
            ((5, at(2, 1)), (5, at(2, 1))),
            ((9, at(1, 99)), (9, at(2, 1))),
            ((7, at(2, 2)), (9, at(2, 2))),
        ] {
            catalog.set_retained_from(gate.id, ServerTime::from_micros(set.0), set.1).unwrap();
            let stream = catalog.stream_by_id(gate.id).unwrap();
            assert_eq!(stream.retained_from, Some(ServerTime::from_micros(kept.0)));
            assert_eq!(stream.dropped, Some(kept.1));
        }
    }

    #[test]
    fn lost_stream_is_adopted_once_and_never_under_a_taken_name() {
        let (_folder, catalog) = fresh();
        let found = Stream {
            id: StreamId::random(),
            name: name("gate"),
            created: NOW,
            settings: StreamSettings::default(),
            retained_from: Some(NOW),
            dropped: Some(Position { epoch: Epoch(3), sequence: Sequence(7) }),
        };
        catalog.adopt_stream(&found).unwrap();
        catalog.adopt_stream(&found).unwrap();
        assert_eq!(catalog.stream(&found.name), Some(found.clone()));
        let other = Stream { id: StreamId::random(), ..found };
        assert!(matches!(catalog.adopt_stream(&other), Err(CatalogError::Exists(_))));
    }
}
