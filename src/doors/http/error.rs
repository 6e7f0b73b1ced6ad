//! The one shape of every HTTP error, and the one place where errors of other rooms become one.
//!
//! A client branches on `code`, never on `message`. Codes are stable; new ones may come.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use media::ids::BadStreamName;
use media::{ProducerTime, ServerTime};
use serde::Serialize;
use store::StoreError;

use crate::auth::{MintError, Refusal};
use crate::catalog::CatalogError;
use crate::live::PublishError;

/// What went wrong, in a word that a program can branch on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// 400: a parameter or the body is not what the document says.
    BadRequest,
    /// 400: a time, duration or range is not one, or `from` is after `to`.
    BadTime,
    /// 400: not a stream name.
    BadStreamName,
    /// 400: two different credentials in one request.
    AmbiguousCredential,
    /// 401: no credential.
    MissingCredential,
    /// 401: the credential is wrong, expired or revoked.
    WrongCredential,
    /// 403: the credential does not allow this.
    Forbidden,
    /// 403: this server takes credentials over TLS only.
    TlsRequired,
    /// 404: no such path.
    NotFound,
    /// 404: no such stream.
    StreamNotFound,
    /// 404: no such token or key.
    CredentialNotFound,
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 400: as many of them as this server holds.
    LimitReached,
    /// 409: the name is taken.
    StreamExists,
    /// 409: another credential publishes the stream.
    StreamBusy,
    /// 409: the tracks change in the range so that one file cannot have them all; `ranges` says where.
    TracksChange,
    /// 406: nothing of what an offer lists can be taken or sent.
    NotAcceptable,
    /// 412: the session or the stream is not as `If-Match` says.
    PreconditionFailed,
    /// 428: the call needs `If-Match`.
    PreconditionRequired,
    /// 415: the body is of another type than the call takes.
    UnsupportedType,
    /// 410: it was there and was deleted; `earliest` says what still is.
    MediaGone,
    /// 404: nothing was recorded there.
    NoMedia,
    /// 413: the body is longer than allowed.
    TooLarge,
    /// 501: the program that decodes pictures, or a decoder for this codec, is not installed.
    NoDecoder,
    /// 500: the media could not be decoded.
    DecoderFailed,
    /// 503: as much is under way as this server does at once; try again in a moment.
    Busy,
    /// 415: no track of the stream can be played this way.
    NotPlayable,
    /// 416: the byte range lies outside.
    RangeNotSatisfiable,
    /// 421: this server does not answer to that host name.
    UnknownHost,
    /// 429: too many requests or failures; try again later.
    TooManyRequests,
    /// 500: stored bytes are damaged and are not served.
    MediaDamaged,
    /// 500: the disk or the database refused; the server's log says more.
    StorageFailed,
    /// 500: a mistake of ours; the server's log says more.
    Internal,
    /// 503: the server is stopping.
    Stopping,
    /// 507: the volume is full.
    DiskFull,
}

impl Code {
    /// The status that goes with it.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Code::BadRequest | Code::BadTime | Code::BadStreamName | Code::AmbiguousCredential | Code::LimitReached => {
                StatusCode::BAD_REQUEST
            }
            Code::MissingCredential | Code::WrongCredential => StatusCode::UNAUTHORIZED,
            Code::Forbidden | Code::TlsRequired => StatusCode::FORBIDDEN,
            Code::NotFound | Code::StreamNotFound | Code::CredentialNotFound | Code::NoMedia => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::StreamExists | Code::StreamBusy | Code::TracksChange => StatusCode::CONFLICT,
            Code::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Code::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Code::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Code::MediaGone => StatusCode::GONE,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::NotPlayable | Code::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Code::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::MediaDamaged | Code::StorageFailed | Code::Internal | Code::DecoderFailed => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Code::NoDecoder => StatusCode::NOT_IMPLEMENTED,
            Code::Stopping | Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

/// A refused request: what the client reads, and what only our log reads.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    /// For the client.
    pub(crate) message: String,
    /// For the log; never sent.
    pub(crate) cause: Option<String>,
    /// The earliest time that can still be had, with [`Code::MediaGone`].
    pub(crate) earliest: Option<ServerTime>,
    /// Times of the nearest pictures before and after, with [`Code::NoMedia`] where they were looked for.
    pub(crate) previous: Option<ProducerTime>,
    pub(crate) next: Option<ProducerTime>,
    /// The parts that can be asked for one by one, with [`Code::TracksChange`].
    pub(crate) ranges: Box<[RangeOut]>,
}

/// A part of a range in which the tracks are the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RangeOut {
    pub(crate) from: String,
    pub(crate) to: String,
    /// The tracks, for people.
    pub(crate) tracks: String,
}

/// The body of every error.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Serialize, utoipa::ToSchema)]
struct ErrorDetail {
    code: Code,
    /// A sentence for people; it may change.
    message: String,
    /// Find the request in the server's log by this.
    request_id: String,
    /// With `media_gone`: the earliest time that can still be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest: Option<String>,
    /// With `no_media`, of pictures: the time of the last one before, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    /// The same of the first one after.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// With `tracks_change`: the parts that can be asked for one by one, the first twenty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<RangeOut>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            message: message.into(),
            cause: None,
            earliest: None,
            previous: None,
            next: None,
            ranges: Box::default(),
        }
    }

    /// An error whose reason is for our log only.
    pub(crate) fn hidden(code: Code, message: &str, cause: impl ToString) -> ApiError {
        ApiError { cause: Some(cause.to_string()), ..ApiError::new(code, message) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(Code::BadRequest, message)
    }

    /// Asked for media that was deleted; the body names the `earliest` time left.
    pub(crate) fn gone(message: impl Into<String>, earliest: Option<ServerTime>) -> ApiError {
        ApiError { earliest, ..ApiError::new(Code::MediaGone, message) }
    }

    /// The response with its body, for the request with this id.
    pub(super) fn render(&self, request_id: &str) -> Response {
        let body = ErrorBody {
            error: ErrorDetail {
                code: self.code,
                message: self.message.clone(),
                request_id: request_id.to_owned(),
                earliest: self.earliest.map(super::time::format_server),
                previous: self.previous.map(super::time::format_producer),
                next: self.next.map(super::time::format_producer),
                ranges: self.ranges.to_vec(),
            },
        };
        let mut response = (self.code.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kinora\""));
        }
        if matches!(self.code, Code::TooManyRequests | Code::Stopping | Code::Busy) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// Puts the error in the response's extensions: the request's id, which the body names, is known to the
/// outermost layer alone ([`super::route`]), which renders it.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let code = match refusal {
            Refusal::Missing => Code::MissingCredential,
            Refusal::Wrong | Refusal::Stale => Code::WrongCredential,
            Refusal::Forbidden => Code::Forbidden,
            Refusal::TooMany => Code::TooManyRequests,
        };
        ApiError::new(code, refusal.to_string())
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> ApiError {
        match error {
            CatalogError::Exists(_) => ApiError::new(Code::StreamExists, error.to_string()),
            CatalogError::TooManyStreams(_) => ApiError::new(Code::LimitReached, error.to_string()),
            CatalogError::BadSettings(why) => ApiError::bad_request(why),
            CatalogError::Changed => ApiError::new(Code::PreconditionFailed, error.to_string()),
            CatalogError::NoStream => ApiError::new(Code::StreamNotFound, error.to_string()),
            CatalogError::NoCredential => ApiError::new(Code::CredentialNotFound, error.to_string()),
            CatalogError::Newer { .. }
            | CatalogError::Database(_)
            | CatalogError::File { .. }
            | CatalogError::Random(_) => ApiError::hidden(Code::StorageFailed, "the control database refused", error),
        }
    }
}

impl From<MintError> for ApiError {
    fn from(error: MintError) -> ApiError {
        match error {
            MintError::Pattern | MintError::Label | MintError::MediaRange | MintError::Expired => {
                ApiError::bad_request(error.to_string())
            }
            MintError::MoreThanMaker(_) => ApiError::new(Code::Forbidden, error.to_string()),
            MintError::Catalog(catalog) => catalog.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error {
            StoreError::Gone => ApiError::gone("this media was deleted", None),
            StoreError::Damaged { .. } => {
                ApiError::hidden(Code::MediaDamaged, "these stored bytes are damaged and are not served", error)
            }
            StoreError::Locked(_) | StoreError::Newer { .. } | StoreError::Disk { .. } | StoreError::Index(_) => {
                ApiError::hidden(Code::StorageFailed, "the store refused", error)
            }
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> ApiError {
        match error {
            PublishError::Busy { .. } | PublishError::Displaced { .. } => {
                ApiError::new(Code::StreamBusy, error.to_string())
            }
            PublishError::DiskFull => ApiError::new(Code::DiskFull, error.to_string()),
            PublishError::Stopping => ApiError::new(Code::Stopping, error.to_string()),
            PublishError::Store(store) => store.into(),
        }
    }
}

impl From<BadStreamName> for ApiError {
    fn from(error: BadStreamName) -> ApiError {
        ApiError::new(Code::BadStreamName, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: impl Into<ApiError>, code: Code, status: u16) {
        let error = error.into();
        assert_eq!(error.code, code);
        assert_eq!(error.code.status().as_u16(), status);
    }

    #[test]
    fn errors_of_rooms_have_their_code_and_status() {
        let name = media::StreamName::new("gate").expect("a name");
        check(CatalogError::Exists(name), Code::StreamExists, 409);
        check(CatalogError::NoStream, Code::StreamNotFound, 404);
        check(Refusal::Missing, Code::MissingCredential, 401);
        check(Refusal::Wrong, Code::WrongCredential, 401);
        check(Refusal::Forbidden, Code::Forbidden, 403);
        check(Refusal::TooMany, Code::TooManyRequests, 429);
        check(StoreError::Gone, Code::MediaGone, 410);
        check(PublishError::DiskFull, Code::DiskFull, 507);
        check(BadStreamName::Slash, Code::BadStreamName, 400);
    }

    #[test]
    fn what_a_database_says_is_not_told_to_a_client() {
        let error = ApiError::from(CatalogError::Database("/secret/path is locked".into()));
        assert!(!error.message.contains("secret"));
        assert!(error.cause.expect("kept for the log").contains("secret"));
    }
}
