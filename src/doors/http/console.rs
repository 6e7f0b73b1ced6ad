//! The console: the built files of `web/`, inside the program.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use include_dir::{Dir, File, include_dir};

use super::route::{Needs, Route};

/// `web/dist` as it was when this program was built; `build.rs` puts a page there when the console was not built.
static FILES: Dir<'static> = include_dir!("$OUT_DIR/console");

const WHY: &str = "static files, the same for everybody; what they show is fetched with a token";

/// Scripts, styles and pictures of our own only; media from blobs (MSE) and from us.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data: blob:; media-src 'self' blob:; worker-src 'self' blob:; \
                      connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Every file, by the path it is served at.
static PATHS: LazyLock<Vec<(String, &'static File<'static>)>> = LazyLock::new(|| {
    let mut found = Vec::new();
    let mut folders = vec![&FILES];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files() {
            // What a route cannot be named after was not made by our build.
            if let Some(path) = file.path().to_str().filter(|path| !path.contains(['{', '}'])) {
                found.push((format!("/{path}"), file));
            }
        }
    }
    found
});

/// One row per file: nothing else is served without a credential.
pub(super) fn routes() -> Vec<Route> {
    let row = |path: &'static str, file: &'static File<'static>| {
        Route::new(Method::GET, path, Needs::Public(WHY), "A file of the console.", async move || serve(file))
    };
    let mut rows: Vec<Route> = PATHS.iter().map(|(path, file)| row(path.as_str(), file)).collect();
    rows.extend(FILES.get_file("index.html").map(|file| row("/", file)));
    rows
}

fn serve(file: &'static File<'static>) -> Response {
    let path = file.path().to_str().unwrap_or_default();
    // Vite puts a hash in the names under assets/: what has that name never changes.
    let caching = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = (StatusCode::OK, file.contents()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" => "application/json",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_row_of_the_table() {
        let rows = routes();
        assert!(rows.iter().any(|row| row.path == "/"));
        assert!(rows.iter().any(|row| row.path == "/index.html"));
        assert!(rows.iter().all(|row| matches!(row.needs, Needs::Public(_)) && row.method == Method::GET));
    }
}
