//! What every request gets, whatever its tenant: an id, a span in the log, and errors of one form.

use std::{
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    http::{Extensions, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::BoxFuture};
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};
use uuid::Uuid;

use crate::{Problem, ProblemKind};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: in its span, and in the response as `x-request-id`. Made here; what a client sends is not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub Uuid);

/// Where the tenant is noted once it is known.
#[derive(Clone)]
struct RequestSpan(Span);

/// A layer that gives every request an id and a span `request` with `request_id`, `method`, `tenant` and `status`, answers a
/// panic with a [`Problem`], and turns the plain-text errors of axum's own (no such route, method not allowed, a body too large
/// or of the wrong type) into problems as well. Responses that have a form of their own are left alone.
///
/// The outermost layer of a router, or of a `tower::ServiceBuilder`. Neither path nor headers get into the span: a path may
/// hold a secret, and a header is where credentials are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestLayer;

/// What [`RequestLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct RequestService<S> {
    inner: S,
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestService { inner }
    }
}

impl<S> Service<Request> for RequestService<S>
where
    S: Service<Request>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let id = Uuid::new_v4();
        let span = tracing::info_span!(
            "request",
            request_id = %id,
            method = %request.method(),
            tenant = field::Empty,
            status = field::Empty,
        );
        request.extensions_mut().insert(RequestId(id));
        request.extensions_mut().insert(RequestSpan(span.clone()));
        let answer = span.in_scope(|| self.inner.call(request));
        let noted = span.clone();
        let answered = async move {
            // Whatever the handler held was dropped by the panic; nothing of it is looked at again.
            let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(answer) => structured(answer?.into_response()),
                Err(_) => Problem::new(ProblemKind::Internal).because("the handler panicked").into_response(),
            };
            noted.record("status", response.status().as_u16());
            if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
                response.headers_mut().insert(X_REQUEST_ID, id);
            }
            Ok(response)
        };
        answered.instrument(span).boxed()
    }
}

/// Notes the tenant of a request in its span.
pub(crate) fn record_tenant(extensions: &Extensions, tenant: Uuid) {
    if let Some(RequestSpan(span)) = extensions.get() {
        span.record("tenant", field::display(tenant));
    }
}

/// A problem in the place of an error in plain text, whose wording may tell of types and parsers.
fn structured(response: Response) -> Response {
    let status = response.status();
    let plain = || match response.headers().get(header::CONTENT_TYPE) {
        None => true,
        Some(form) => form.as_bytes().starts_with(b"text/plain"),
    };
    if !(status.is_client_error() || status.is_server_error()) || !plain() {
        return response;
    }
    let mut problem = Problem::from_status(status).into_response();
    for (name, value) in response.headers() {
        // The rest is about the error itself: what is allowed, when to retry.
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING].contains(name) {
            problem.headers_mut().append(name, value.clone());
        }
    }
    problem
}
