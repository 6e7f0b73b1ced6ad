//! Reading a request's query and JSON body: bounded in length and time, refused in the one shape of errors.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::App;
use super::error::{ApiError, Code};

/// The query string as `T`.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Query<T>, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
        }
    }
}

/// The body as `T`, from JSON.
///
/// `Content-Type: application/json` is asked for: a page of another origin cannot send that without a pre-flight.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Json<T>, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::bad_request("send the body as JSON, with Content-Type: application/json"));
        }
        let limits = app.config().limits.clone();
        let most = usize::try_from(limits.body_bytes.0).unwrap_or(usize::MAX);
        let reading = Limited::new(request.into_body(), most).collect();
        let bytes = match timeout(limits.body_timeout.0, reading).await {
            Err(_) => return Err(ApiError::bad_request("the body took too long to arrive")),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(ApiError::new(Code::TooLarge, format!("the body is longer than {}", limits.body_bytes)));
            }
            Ok(Err(error)) => return Err(ApiError::bad_request(format!("the body did not arrive whole: {error}"))),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let value = serde_json::from_slice(&bytes);
        value.map(Json).map_err(|error| ApiError::bad_request(format!("the body is not what this call takes: {error}")))
    }
}
