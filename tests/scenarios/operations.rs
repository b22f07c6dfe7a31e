//! The operators' commands, by their reports: what they find, what they change, and that they say no more than they measured.

mod checklist;
mod configuration;
mod keys;
mod migrations;
mod program;
