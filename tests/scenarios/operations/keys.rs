//! `encrypt-tenant-keys`: seals, rewraps, and the second time finds nothing to do.

mod transfers;

use secrecy::ExposeSecret;
use tenantry::operations::{Logins, SealAction, SealMode, seal_keys};
use tenantry_app_db::entities::tenants;
use tenantry_connection::Actor;
use tenantry_credential::{CredentialColumn, Form};
use uuid::Uuid;

use crate::world::{World, keyring, on_both_engines};

on_both_engines!(without_a_login_there_is_nothing_to_do);

async fn without_a_login_there_is_nothing_to_do(world: World) {
    let tenantry = world.restarted(|settings| settings.keyring = None);
    let report = seal_keys(&tenantry, SealMode::Apply, &Actor::default()).await.unwrap();
    assert!(report.passed() && report.keys.is_empty());
}

/// Four tenants in one data source: plain logins (as settings write them), sealed with the retired key, current, damaged.
struct Keys {
    world: World,
    tenants: Vec<tenants::Model>,
    logins: Logins,
}

const PLAIN: usize = 0;
const RETIRED: usize = 1;
const CURRENT: usize = 2;
const DAMAGED: usize = 3;

async fn keys() -> Keys {
    let world = World::postgres().await;
    let mut tenants = Vec::new();
    for subdomain in ["a-plain", "b-retired", "c-current", "d-damaged"] {
        tenants.push(world.tenant(subdomain).await);
    }
    let logins = world.shared().logins.unwrap();
    let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (anon, service) = (&logins.restricted, &logins.service);
    let json = serde_json::json!({ "user": anon.user, "password": anon.password.expose_secret() }).to_string();
    let short = format!("{}:{}", service.user, service.password.expose_secret());
    let set = |subdomain: &str, anon: &str, service: &str| {
        format!(
            "UPDATE tenants SET data_source_anon_key = {}, data_source_service_key = {} WHERE subdomain = '{subdomain}'",
            literal(anon),
            literal(service)
        )
    };
    world.app_sql(&set("a-plain", &json, &short)).await;
    let old = keyring("old");
    let id = tenants[RETIRED].id;
    let seal = |column, login| old.seal(id, column, login).unwrap();
    world
        .app_sql(&set("b-retired", &seal(CredentialColumn::Anon, anon), &seal(CredentialColumn::Service, service)))
        .await;
    // A neighbour's service key; the other column is right and old.
    let foreign = keyring("new").seal(tenants[CURRENT].id, CredentialColumn::Service, service).unwrap();
    let old_anon = old.seal(tenants[DAMAGED].id, CredentialColumn::Anon, anon).unwrap();
    world.app_sql(&set("d-damaged", &old_anon, &foreign)).await;
    Keys { world, tenants, logins }
}

async fn stored(world: &World) -> Vec<(Option<String>, Option<String>, i64)> {
    let text = |key: Option<tenantry_app_db::entities::Hidden>| key.map(|key| key.into_string());
    let rows = world.tenantry.app_db().tenants().await.unwrap();
    rows.into_iter()
        .map(|row| (text(row.data_source_anon_key), text(row.data_source_service_key), row.placement_epoch))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_sealed_and_rewrapped_once() {
    let Keys { world, tenants, logins } = keys().await;
    let before = stored(&world).await;
    let actor = Actor::user(Uuid::new_v4());

    let dry = seal_keys(&world.tenantry, SealMode::DryRun, &actor).await.unwrap();
    assert_eq!(stored(&world).await, before, "a dry run changes nothing");
    let actions: Vec<_> = dry.keys.iter().map(|key| (key.subdomain.as_str(), key.column, key.action)).collect();
    let (anon, service) = (CredentialColumn::Anon.as_str(), CredentialColumn::Service.as_str());
    assert_eq!(
        actions,
        [
            ("a-plain", anon, SealAction::Seal),
            ("a-plain", service, SealAction::Seal),
            ("b-retired", anon, SealAction::Rewrap),
            ("b-retired", service, SealAction::Rewrap),
            ("c-current", anon, SealAction::Keep),
            ("c-current", service, SealAction::Keep),
            ("d-damaged", anon, SealAction::Rewrap),
            ("d-damaged", service, SealAction::Refuse),
        ]
    );
    assert!(!dry.passed() && dry.changes() == 5, "{dry:#?}");
    assert!(dry.keys[7].error.as_deref().unwrap().contains("does not authenticate"));

    let applied = seal_keys(&world.tenantry, SealMode::Apply, &actor).await.unwrap();
    assert_eq!(applied.keys, dry.keys, "the dry run said exactly what was done");
    let after = stored(&world).await;
    assert_eq!(after[CURRENT], before[CURRENT], "what was current is not sealed anew");
    assert_eq!(after[DAMAGED].1, before[DAMAGED].1, "what does not open is not overwritten");
    assert!(after[DAMAGED].2 > before[DAMAGED].2 && after[PLAIN].2 > before[PLAIN].2, "the epoch tells of the change");
    let ring = keyring("new");
    for (index, tenant) in tenants.iter().enumerate().filter(|(index, _)| *index != DAMAGED) {
        let (anon, service, _) = &after[index];
        let texts =
            [(CredentialColumn::Anon, anon, &logins.restricted), (CredentialColumn::Service, service, &logins.service)];
        for (column, text, login) in texts {
            let text = text.as_deref().unwrap();
            assert_eq!(ring.form(text), Form::Current { key_id: "new".to_owned() }, "{}", tenant.subdomain);
            assert_eq!(ring.open(tenant.id, column, text).unwrap(), *login, "{}", tenant.subdomain);
        }
        let test = world.tenantry.manager().test_connection(tenant.id).await;
        assert!(test.passed(), "at once, without a restart: {test:?}");
    }
    // Audited by the database, with who did it and without the values.
    let log = world.tenantry.app_db().audit_entries(Some(tenants[PLAIN].id), 1).await.unwrap();
    assert_eq!((log[0].action.as_str(), log[0].user_id), ("data_source_updated", actor.user_id));
    let changes = log[0].changes.as_ref().unwrap().to_string();
    assert!(!changes.contains("v1:new") && !changes.contains(logins.service.password.expose_secret()), "{changes}");

    let again = seal_keys(&world.tenantry, SealMode::Apply, &actor).await.unwrap();
    assert_eq!(again.changes(), 0);
    assert_eq!(stored(&world).await, after, "run twice, nothing changes");
}

/// The retired key has gone too early: nothing is lost, and it says which key is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_is_named_and_nothing_is_written() {
    let Keys { world, .. } = keys().await;
    let before = stored(&world).await;
    let only_new = tenantry_credential::Keyring::new(
        "new",
        [("new".to_owned(), secrecy::SecretString::from(crate::world::KEYS[1].1))],
    )
    .unwrap();
    let tenantry = world.restarted(|settings| settings.keyring = Some(std::sync::Arc::new(only_new)));
    let report = seal_keys(&tenantry, SealMode::Apply, &Actor::default()).await.unwrap();
    let told: Vec<_> = report.keys.iter().filter_map(|key| key.error.as_deref()).collect();
    assert!(!report.passed() && told.len() == 4, "{report:#?}");
    assert!(told[0].contains("needs key `old`"), "{told:#?}");
    let after = stored(&world).await;
    assert_eq!((&after[RETIRED], &after[DAMAGED]), (&before[RETIRED], &before[DAMAGED]));
    assert_ne!(after[PLAIN], before[PLAIN], "one tenant's failure does not stop the others");

    let none = world.restarted(|settings| settings.keyring = None);
    let error = seal_keys(&none, SealMode::DryRun, &Actor::default()).await.unwrap_err();
    assert!(error.to_string().contains("set ENCRYPTION_KEY"), "{error}");
}

/// Somebody replaces logins while they are being rewrapped: the new ones win, whoever writes last.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_replaced_meanwhile_is_never_overwritten() {
    let Keys { world, tenants, logins } = keys().await;
    let id = tenants[RETIRED].id;
    let fresh = tenantry_credential::Login::new(&logins.restricted.user, "rotated meanwhile".to_owned()).unwrap();
    for round in 0..12_u32 {
        // Old again, so that there is something to rewrap.
        let old = keyring("old").seal(id, CredentialColumn::Anon, &logins.restricted).unwrap();
        let app_db = world.tenantry.app_db();
        let epoch = app_db.tenant(id).await.unwrap().unwrap().placement_epoch;
        let epoch = app_db.replace_credentials(id, epoch, Some(old), None, &Actor::default()).await.unwrap();
        let rotating = {
            let world = world.tenantry.clone();
            let fresh = fresh.clone();
            tokio::spawn(async move {
                for _ in 0..round {
                    tokio::task::yield_now().await;
                }
                let sealed = keyring("new").seal(id, CredentialColumn::Anon, &fresh).unwrap();
                let app_db = world.app_db();
                let mut epoch = epoch;
                loop {
                    match app_db.replace_credentials(id, epoch, Some(sealed.clone()), None, &Actor::default()).await {
                        Ok(_) => return,
                        Err(tenantry_app_db::Error::Moved { found, .. }) => epoch = found,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        };
        let report = seal_keys(&world.tenantry, SealMode::Apply, &Actor::default()).await.unwrap();
        rotating.await.unwrap();
        let entry = report.keys.iter().find(|key| key.tenant == id).unwrap();
        assert!(entry.error.is_none(), "moved once, done again: {entry:?}");
        let stored = app_db.tenant(id).await.unwrap().unwrap().data_source_anon_key.unwrap();
        let opened = keyring("new").open(id, CredentialColumn::Anon, stored.as_str()).unwrap();
        assert_eq!(opened, fresh, "round {round}: the rotated login was overwritten with the old one");
    }
}
