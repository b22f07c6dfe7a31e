//! What the log has of a request that failed. A program of its own: the log of a process is one.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body, http::Request, routing::get};
use tenantry_axum::{Problem, RequestLayer};
use tenantry_connection::Error;
use tower::ServiceExt;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn failing() -> Result<(), Problem> {
    Err(Error::Fenced { data_source: "postgresql://krypton.internal:5432/krypton".parse().unwrap() }.into())
}

/// The details are in the log, under the id that the client can name; its credential is nowhere.
#[tokio::test]
async fn the_log_has_what_the_client_does_not_get() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let app: Router = Router::new().route("/", get(failing)).layer(RequestLayer);
    let request =
        Request::get("/?token=hunter2").header("authorization", "Bearer hunter2").header("cookie", "s=hunter2");
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let instance = body["instance"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    assert!(text.contains(instance) && text.contains(&id) && !id.is_empty(), "{text}");
    assert!(text.contains("the tenant is fenced in postgresql://krypton.internal:5432/krypton"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!body.to_string().contains("krypton"), "{body}");
}
