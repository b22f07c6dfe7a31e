//! The scenarios are in `scenarios/`; this package has nothing else.
