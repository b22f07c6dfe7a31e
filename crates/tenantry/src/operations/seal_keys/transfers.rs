//! The logins that transfers have recorded: those of the place that a tenant came from and of the place that it goes to. Who goes on
//! with a transfer, rolls it back or purges what it left behind opens them, so that they have to outlive a key.

use std::collections::HashMap;

use tenantry_app_db::{
    NewLogins, NewPlacement,
    entities::{TransferStep, transfers::Model},
};
use tenantry_connection::Actor;
use tenantry_credential::CredentialColumn;
use tenantry_data_source::with_causes;
use uuid::Uuid;

use super::{Holder, SealMode, SealedKey, prepare_one};
use crate::{Error, Tenantry};

/// What is to be written for one transfer, and what is said about it.
struct Prepared {
    keys: Vec<SealedKey>,
    source: NewLogins,
    target: NewLogins,
}

/// Seals the logins of every transfer anew.
pub(super) async fn seal(tenantry: &Tenantry, mode: SealMode, actor: &Actor) -> Result<Vec<SealedKey>, Error> {
    let app_db = tenantry.app_db();
    let names: HashMap<Uuid, String> =
        app_db.tenants().await?.into_iter().map(|tenant| (tenant.id, tenant.subdomain)).collect();
    let mut keys = Vec::new();
    for transfer in app_db.transfers(None, u64::MAX).await? {
        let Some(mut prepared) = prepare(tenantry, &transfer, &names)? else { continue };
        if mode == SealMode::Apply && prepared.has_changes() {
            let Prepared { source, target, .. } = &prepared;
            match app_db.reseal_transfer(&transfer, source, target, actor).await {
                Ok(true) => {}
                // Only another run of this changes them.
                Ok(false) => prepared.fail("somebody else has sealed it meanwhile; run it again"),
                Err(error) => prepared.fail(&with_causes(&error)),
            }
        }
        keys.extend(prepared.keys);
    }
    Ok(keys)
}

/// `None` where it has no logins.
fn prepare(tenantry: &Tenantry, transfer: &Model, names: &HashMap<Uuid, String>) -> Result<Option<Prepared>, Error> {
    let subdomain = names.get(&transfer.tenant_id);
    let is_used = subdomain.is_some() && (transfer.step.is_under_way() || transfer.step == TransferStep::Finished);
    let ends = transfer.source().and_then(|source| Ok((source, transfer.target()?)));
    let (source, target) = match ends {
        Ok(ends) => ends,
        Err(_) if !is_used => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if [&source, &target].iter().all(|place| place.anon_key.is_none() && place.service_key.is_none()) {
        return Ok(None);
    }
    let keyring = tenantry.settings().keyring.as_ref().ok_or(Error::NoKeyring)?;
    let holder = Holder {
        tenant: transfer.tenant_id,
        subdomain: subdomain.map(String::as_str).unwrap_or_default(),
        transfer: Some(transfer.id),
    };
    let mut keys = Vec::new();
    let mut logins = |place: &NewPlacement, [anon, service]: [&'static str; 2]| {
        let mut sealed = |column, name, text: &Option<String>| {
            let (key, sealed) = prepare_one(keyring, &holder, (column, name), text.as_ref()?);
            if is_used || key.error.is_none() {
                keys.push(key);
            }
            sealed
        };
        NewLogins {
            anon_key: sealed(CredentialColumn::Anon, anon, &place.anon_key),
            service_key: sealed(CredentialColumn::Service, service, &place.service_key),
        }
    };
    let source = logins(&source, ["source_placement.anon_key", "source_placement.service_key"]);
    let target = logins(&target, ["target_placement.anon_key", "target_placement.service_key"]);
    Ok(Some(Prepared { keys, source, target }))
}

impl Prepared {
    fn has_changes(&self) -> bool {
        self.source != NewLogins::default() || self.target != NewLogins::default()
    }

    fn fail(&mut self, error: &str) {
        for key in self.keys.iter_mut().filter(|key| key.error.is_none() && key.is_change()) {
            key.error = Some(error.to_owned());
        }
    }
}
