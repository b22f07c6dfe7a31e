//! Tenantry for axum and tower: from a request to its tenant's rows, and from an error to an answer.
//!
//! ```text
//! request ─ RequestLayer ─ the application's authentication ─ Tenant / OneLease / OneRead ─ handler
//!           id, span        puts a TenantClaim                 resolve, route, actor         │
//!           problems  <──────────────────────────────────────────────── Problem <── any error
//! ```
//!
//! ```
//! use axum::{Json, Router, routing::get};
//! use tenantry_axum::{Problem, RequestLayer, SetupError, Tenancy, Tenant, TenantResolver};
//! use tenantry_data_source::DataSourceManager;
//!
//! fn router(manager: &DataSourceManager) -> Result<Router, SetupError> {
//!     let resolver = TenantResolver::new().require_claim().subdomain_of("app.example.com");
//!     let tenancy = Tenancy::new(manager.clone(), resolver)?;
//!     Ok(Router::new().route("/api/writes", get(writes)).with_state(tenancy).layer(RequestLayer))
//! }
//!
//! async fn writes(Tenant(db): Tenant) -> Result<Json<usize>, Problem> {
//!     Ok(Json(db.write_log(100).await?.len()))
//! }
//! ```
//!
//! Nothing here is ambient: a handler has its tenant's handle as an argument, and hands it, or a [`TenantContextRef`], to
//! whatever goes on without it.
//!
//! This crate knows no business table, no session format and no password: who signs in, and how, is the application's.

mod claim;
mod client;
mod context;
mod error;
mod extract;
mod problem;
mod request;
mod resolver;
mod tenancy;

pub use claim::TenantClaim;
pub use client::{ForwardedHeader, TrustedProxies};
pub use context::TenantContextRef;
pub use error::{ResolveError, SetupError, TenantSource};
pub use extract::{ClientAddress, OneLease, OneRead, Tenant};
pub use problem::{FieldError, PROBLEM_JSON, Problem, ProblemKind, pointer_to};
pub use request::{RequestId, RequestLayer, RequestService};
pub use resolver::{NameCache, NameStats, TenantResolver};
pub use tenancy::Tenancy;
