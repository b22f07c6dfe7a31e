//! Every operator's command, for the bookings.

use std::process::ExitCode;

use bookings::BookingsMigrator;
use tenantry::settings::{Settings, SettingsError};

struct Bookings;

impl tenantry_cli::Application for Bookings {
    type TenantData = BookingsMigrator;
    const NAME: &'static str = "bookings-operator";

    fn settings() -> Result<Settings, SettingsError> {
        Ok(bookings::settings(Settings::load()?))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tenantry_cli::main::<Bookings>().await
}
