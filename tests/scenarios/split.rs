//! Splitting the single database into the tenants' own data sources: every row is there afterwards, on every pair of engines,
//! also when things break midway; what does not fit is refused before the first byte; and it can be taken back.

mod cascades;
mod crash;
mod fence;
mod figures;
mod interrupted;
mod pairs;
mod refusals;
mod resumed;
mod rollback;
mod schemas;
mod taken_over;
mod verification;
mod world;
