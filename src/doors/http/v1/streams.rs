//! Streams: create, list, look at, change, delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use media::{Codec, StreamId, StreamName, Track};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use store::StreamIdentity;
use utoipa::ToSchema;

use super::blocking;
use crate::auth::Action;
use crate::catalog::{CatalogError, ProducerClock, Retention, SecondPublisher, Stream, StreamSettings};
use crate::config::units::{Size, Span};
use crate::doors::http::App;
use crate::doors::http::byte_range::{header_value, is_known};
use crate::doors::http::error::{ApiError, Code};
use crate::doors::http::extract::{Json, Query};
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::doors::http::time::{format_producer, format_server};
use crate::live::Status;

pub(super) fn routes() -> Vec<Route> {
    let on_stream = |action| Needs::Action(action, On::PathStream);
    let named = |action| Needs::Action(action, On::NamedStreams);
    const ONE: &str = "/v1/streams/{stream}";
    vec![
        Route::new(Method::POST, "/v1/streams", named(Action::CreateStream), "Creates a stream.", create)
            .takes::<NewStream>()
            .gives::<StreamInfo>(StatusCode::CREATED),
        Route::new(Method::GET, "/v1/streams", named(Action::ReadStream), "Lists streams in name order.", list)
            .with_query(&[
                ("prefix", "only names that start so"),
                ("limit", "most streams in the answer, 1 to 1000, by default 100"),
                ("cursor", "where the page before ended"),
            ])
            .gives::<StreamPage>(StatusCode::OK),
        Route::new(Method::GET, ONE, on_stream(Action::ReadStream), "State, tracks, bitrate, times of a stream.", show)
            .gives::<StreamInfo>(StatusCode::OK),
        Route::new(Method::PATCH, ONE, on_stream(Action::UpdateStream), "Changes settings of a stream.", update)
            .takes::<StreamChange>()
            .gives::<StreamInfo>(StatusCode::OK),
        Route::new(Method::DELETE, ONE, on_stream(Action::DeleteStream), "Deletes a stream and its media.", delete)
            .gives_other(StatusCode::NO_CONTENT, ""),
    ]
}

/// Settings of a new stream.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewStream {
    /// `[A-Za-z0-9_.-]{1,256}`.
    name: String,
    #[serde(default)]
    retention: RetentionBody,
    #[serde(default)]
    on_second_publisher: SecondPublisher,
    #[serde(default)]
    producer_clock: ProducerClock,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Where to pull the stream from. Not built yet: refused when given.
    #[serde(default)]
    source: Option<SourceBody>,
}

/// Where to pull a stream from.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "read only to refuse it by its meaning instead of as an unknown field")]
pub(crate) struct SourceBody {
    url: String,
    #[serde(default)]
    transport: Option<String>,
}

/// What a stream keeps; absent or null: no bound of that kind.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionBody {
    /// A duration such as `24h` or `30d`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    max_age: Option<Span>,
    /// A count of bytes; a size such as `100GB` is taken too.
    #[serde(default, serialize_with = "bytes_out")]
    #[schema(value_type = Option<u64>)]
    max_bytes: Option<Size>,
}

fn bytes_out<S: serde::Serializer>(size: &Option<Size>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

/// Settings to change; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamChange {
    #[serde(default)]
    retention: Option<RetentionChange>,
    #[serde(default)]
    on_second_publisher: Option<SecondPublisher>,
    #[serde(default)]
    producer_clock: Option<ProducerClock>,
    /// All tags; those not named here go.
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
}

/// Bounds to change: absent stays, null lifts the bound.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionChange {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    max_age: Option<Option<Span>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>)]
    max_bytes: Option<Option<Size>>,
}

impl StreamChange {
    fn apply(self, settings: &mut StreamSettings) {
        if let Some(retention) = self.retention {
            if let Some(age) = retention.max_age {
                settings.retention.max_age = age.map(|age| age.0);
            }
            if let Some(bytes) = retention.max_bytes {
                settings.retention.max_bytes = bytes.map(|size| size.0);
            }
        }
        settings.on_second_publisher = self.on_second_publisher.unwrap_or(settings.on_second_publisher);
        settings.producer_clock = self.producer_clock.unwrap_or(settings.producer_clock);
        if let Some(tags) = self.tags {
            settings.tags = tags;
        }
    }
}

/// Tells null from absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Whether somebody publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activity {
    /// Somebody publishes, or what he sent is still being written.
    Live,
    /// Nobody publishes, and all that was sent is stored.
    Idle,
}

/// A stream: its settings, and what is known of it now.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamInfo {
    name: String,
    id: String,
    created: String,
    state: Activity,
    retention: RetentionBody,
    on_second_publisher: SecondPublisher,
    producer_clock: ProducerClock,
    tags: BTreeMap<String, String>,
    /// Tracks of the newest media.
    tracks: Vec<TrackInfo>,
    /// Bits a second over the newest seconds; 0 when idle.
    bitrate: u64,
    /// Producer time of the oldest and the end of the newest media.
    first_time: Option<String>,
    last_time: Option<String>,
    /// The same on this server's clock.
    first_server_time: Option<String>,
    last_server_time: Option<String>,
    /// Bytes on disk.
    bytes: u64,
    /// Media before this was dropped by retention.
    retained_from: Option<String>,
    publisher: Option<PublisherInfo>,
    /// Credentials and addresses that fetched playlists or segments within the last 30 s.
    viewers: u64,
    /// What a person should know: tracks that HLS leaves out, and what of the publisher's media is not stored and why.
    notes: Vec<String>,
    /// Address of the live playlist, by `server.public_url` or as the caller reached us.
    hls: String,
}

/// Who publishes.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublisherInfo {
    protocol: String,
    peer: String,
    /// The credential it showed, by its id.
    credential: String,
    since: String,
    /// Access units lost since it came.
    lost: u64,
    /// Packets and access units that came since and are not stored, by reason; reasons that were not met are absent.
    dropped: BTreeMap<&'static str, u64>,
}

/// One track.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrackInfo {
    id: u32,
    codec: &'static str,
    /// As RFC 6381 names it; null when no player plays it.
    codec_string: Option<String>,
    timescale: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u16>,
}

/// A page of streams.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamPage {
    streams: Vec<StreamInfo>,
    /// Give it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl TrackInfo {
    pub(super) fn of(track: &Track) -> TrackInfo {
        let video = track.codec.is_video();
        TrackInfo {
            id: track.id.0,
            codec: codec_name(track.codec),
            codec_string: track.codec_string.clone(),
            timescale: track.timescale.hz(),
            width: video.then_some(track.width),
            height: video.then_some(track.height),
            frame_rate: track.frame_rate_millis.map(|millis| f64::from(millis) / 1000.0),
            channels: (!video && track.channels > 0).then_some(track.channels),
        }
    }
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264",
        Codec::H265 => "h265",
        Codec::Vp8 => "vp8",
        Codec::Vp9 => "vp9",
        Codec::Av1 => "av1",
        Codec::Aac => "aac",
        Codec::Opus => "opus",
        Codec::Pcmu => "pcmu",
        Codec::Pcma => "pcma",
        Codec::Opaque => "opaque",
    }
}

/// What HLS leaves out of these tracks, in words.
fn notes(tracks: &[Track]) -> Vec<String> {
    let mut notes = Vec::new();
    for track in tracks {
        let what = match track.codec {
            Codec::Pcmu | Codec::Pcma => "G.711",
            Codec::Vp8 => "VP8",
            Codec::Opaque => "unknown codec",
            _ if track.codec_string.is_none() => codec_name(track.codec),
            _ => continue,
        };
        notes.push(format!("{what} track {} is stored and is not playable over HLS", track.id));
    }
    notes
}

impl StreamInfo {
    pub(super) fn of(app: &App, stream: &Stream, status: &Status, caller: &Caller) -> StreamInfo {
        let Stream { id, name, created, settings, retained_from, dropped: _ } = stream;
        let tracks = status.tracks.as_ref().map(|(_, set)| set.tracks()).unwrap_or_default();
        let publisher = status.publisher.as_ref().map(|publisher| PublisherInfo {
            protocol: publisher.info.protocol.to_owned(),
            peer: publisher.info.peer.clone(),
            credential: publisher.info.credential.clone(),
            since: format_server(publisher.since),
            lost: status.lost,
            dropped: publisher.dropped.iter().map(|(reason, count)| (reason.as_str(), count)).collect(),
        });
        let mut notes = notes(tracks);
        notes.extend(status.publisher.iter().flat_map(|publisher| publisher.notes.clone()));
        StreamInfo {
            name: name.to_string(),
            id: id.to_string(),
            created: format_server(*created),
            state: if publisher.is_some() || status.unsettled { Activity::Live } else { Activity::Idle },
            retention: RetentionBody {
                max_age: settings.retention.max_age.map(Span),
                max_bytes: settings.retention.max_bytes.map(Size),
            },
            on_second_publisher: settings.on_second_publisher,
            producer_clock: settings.producer_clock,
            tags: settings.tags.clone(),
            tracks: tracks.iter().map(TrackInfo::of).collect(),
            bitrate: status.bitrate,
            first_time: status.first.as_ref().map(|info| format_producer(info.producer_time)),
            last_time: status.last.as_ref().map(|info| format_producer(info.producer_end())),
            first_server_time: status.first.as_ref().map(|info| format_server(info.server_time)),
            last_server_time: status.last.as_ref().map(|info| format_server(info.server_end())),
            bytes: status.bytes,
            retained_from: retained_from.map(format_server),
            publisher,
            viewers: app.viewers(*id, Instant::now()),
            notes,
            hls: format!("{}/hls/{name}/index.m3u8", caller.base_url()),
        }
    }
}

/// A stream with its tag. The first half of the tag is of the settings, which If-Match asks for; the second of the whole answer, which
/// also says what goes on, so that a client that asks again never takes an old state for the present one.
fn tagged(stream: &Stream, info: &StreamInfo, asked: Option<&HeaderMap>) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(info).map_err(|error| ApiError::hidden(Code::Internal, "internal error", error))?;
    let etag = format!("\"{}-{}\"", settings_tag(stream.id, &stream.settings), short_hash(&body));
    let mut response = match asked.is_some_and(|headers| is_known(headers, &etag)) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
    };
    response.headers_mut().insert(header::ETAG, header_value(&etag));
    Ok(response)
}

/// The same for the same settings of the same stream, in every life of the server.
fn settings_tag(id: StreamId, settings: &StreamSettings) -> String {
    let StreamSettings { retention, on_second_publisher, producer_clock, tags } = settings;
    let age = retention.max_age.map(|age| age.as_micros().to_string());
    let all =
        serde_json::to_vec(&(id.to_string(), age, retention.max_bytes, on_second_publisher, producer_clock, tags));
    short_hash(&all.expect("strings and numbers are JSON"))
}

fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether If-Match, if the request has it, names these settings (RFC 9110 section 13.1.1: a weak tag never does).
fn is_wanted(if_match: &[String], id: StreamId, settings: &StreamSettings) -> bool {
    let now = settings_tag(id, settings);
    let names_it = |tag: &str| {
        let halves = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|tag| tag.split_once('-'));
        tag == "*" || halves.is_some_and(|(settings, _)| settings == now)
    };
    if_match.is_empty() || if_match.iter().flat_map(|line| line.split(',')).any(|tag| names_it(tag.trim()))
}

fn if_match(headers: &HeaderMap) -> Vec<String> {
    headers.get_all(header::IF_MATCH).iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(body): Json<NewStream>,
) -> Result<(StatusCode, Answer<StreamInfo>), ApiError> {
    let name = StreamName::new(&body.name)?;
    caller.check(Action::CreateStream, Some(&name))?;
    if body.source.is_some() {
        return Err(ApiError::bad_request("source: pulling is not built yet; push the stream over RTSP instead"));
    }
    let settings = StreamSettings {
        retention: Retention {
            max_age: body.retention.max_age.map(|age| age.0),
            max_bytes: body.retention.max_bytes.map(|size| size.0),
        },
        on_second_publisher: body.on_second_publisher,
        producer_clock: body.producer_clock,
        tags: body.tags,
    };
    let most = app.config().limits.streams as usize;
    let made = app.clone();
    let stream = blocking(move || made.create_stream(&name, settings, most)).await?;
    let status = app.hub.status(stream.id).await?;
    Ok((StatusCode::CREATED, Answer(StreamInfo::of(&app, &stream, &status, &caller))))
}

impl App {
    /// Creates a stream, unless there are `most`, in the catalog and its folder in the store. Blocks.
    pub(crate) fn create_stream(
        &self,
        name: &StreamName,
        settings: StreamSettings,
        most: usize,
    ) -> Result<Stream, ApiError> {
        let stream = self.catalog.create_stream(name, settings, self.clock.now(), most)?;
        let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: stream.created };
        if let Err(error) = self.store.create_stream(&identity) {
            // Without its folder it could not record: better that it is not there.
            self.catalog.delete_stream(stream.id)?;
            return Err(error.into());
        }
        self.events.stream_created(&stream);
        Ok(stream)
    }
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Answer<StreamPage>, ApiError> {
    let limit = page_limit(query.limit, 100, 1000)?;
    let cursor = query.cursor.as_deref().map(StreamName::new).transpose();
    let mut after = cursor.map_err(|_| ApiError::bad_request("cursor is not one that this call gave"))?;
    let mut found: Vec<Arc<Stream>> = Vec::new();
    let mut more = true;
    while more && found.len() < limit {
        let batch = app.catalog.streams(&query.prefix, after.as_ref(), limit);
        more = batch.len() == limit;
        for stream in batch {
            if found.len() == limit {
                more = true;
                break;
            }
            after = Some(stream.name.clone());
            // What a credential may not see is left out, as if it were not there.
            if caller.check(Action::ReadStream, Some(&stream.name)).is_ok() {
                found.push(stream);
            }
        }
    }
    let mut streams = Vec::with_capacity(found.len());
    for stream in &found {
        let status = app.hub.status(stream.id).await?;
        streams.push(StreamInfo::of(&app, stream, &status, &caller));
    }
    Ok(Answer(StreamPage { streams, cursor: after.filter(|_| more).map(|name| name.to_string()) }))
}

/// The page length asked for, `usual` when none was.
pub(super) fn page_limit(asked: Option<usize>, usual: usize, most: usize) -> Result<usize, ApiError> {
    match asked {
        None => Ok(usual),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(ApiError::bad_request(format!("limit is within 1 and {most}"))),
    }
}

async fn show(State(app): State<Arc<App>>, caller: Caller, headers: HeaderMap) -> Result<Response, ApiError> {
    let stream = app.stream(caller.stream()?)?;
    let status = app.hub.status(stream.id).await?;
    tagged(&stream, &StreamInfo::of(&app, &stream, &status, &caller), Some(&headers))
}

async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Json(change): Json<StreamChange>,
) -> Result<Response, ApiError> {
    let id = app.stream(caller.stream()?)?.id;
    let if_match = if_match(&headers);
    let catalog = app.catalog.clone();
    let apply = move |settings: &mut StreamSettings| {
        if !is_wanted(&if_match, id, settings) {
            return Err(CatalogError::Changed);
        }
        change.apply(settings);
        Ok(())
    };
    let stream = blocking(move || catalog.update_stream(id, apply)).await?;
    let status = app.hub.status(id).await?;
    tagged(&stream, &StreamInfo::of(&app, &stream, &status, &caller), None)
}

async fn delete(State(app): State<Arc<App>>, caller: Caller, headers: HeaderMap) -> Result<StatusCode, ApiError> {
    let stream = app.stream(caller.stream()?)?;
    if !is_wanted(&if_match(&headers), stream.id, &stream.settings) {
        return Err(CatalogError::Changed.into());
    }
    tracing::info!(stream = %stream.name, by = caller.principal.id, request_id = %caller.origin.request_id, "stream deleted");
    // In a task of its own: a client that hangs up must not leave a stream half deleted.
    let deleting = tokio::spawn(async move {
        // The tombstone comes first: a crash between leaves an empty stream, never one that comes back.
        app.hub.delete(stream.id).await?;
        let catalog = app.catalog.clone();
        blocking(move || catalog.delete_stream(stream.id)).await?;
        app.events.stream_deleted(&stream);
        Ok(StatusCode::NO_CONTENT)
    });
    deleting.await.unwrap_or_else(|error| Err(ApiError::hidden(Code::Internal, "internal error", error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_tells_null_from_absent() {
        let change: StreamChange = serde_json::from_str(r#"{"retention": {"max_age": null}}"#).expect("a change");
        let retention = change.retention.expect("given");
        assert_eq!(retention.max_age, Some(None));
        assert_eq!(retention.max_bytes, None);
        let change: StreamChange =
            serde_json::from_str(r#"{"retention": {"max_age": "24h", "max_bytes": 1000}}"#).expect("a change");
        let retention = change.retention.expect("given");
        assert_eq!(retention.max_age, Some(Some(Span::secs(86_400))));
        assert_eq!(retention.max_bytes, Some(Some(Size(1000))));
    }

    #[test]
    fn a_body_with_an_unknown_field_is_refused_by_its_name() {
        let error = serde_json::from_str::<NewStream>(r#"{"name": "a", "retentoin": {}}"#).err().expect("refused");
        assert!(error.to_string().contains("retentoin"));
        assert!(serde_json::from_str::<NewStream>(r#"{"name": "a", "retention": {"max_bytes": -1}}"#).is_err());
        let sized: NewStream =
            serde_json::from_str(r#"{"name": "a", "retention": {"max_bytes": "10GB"}}"#).expect("a size");
        assert_eq!(sized.retention.max_bytes, Some(Size(10_000_000_000)));
    }
}
