//! Catches a setting that is read wrongly, a mistake that goes unnoticed, and a secret that an error shows.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
use super::*;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    read_with_file("", variables)
}

fn read_with_file(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = SettingsFile { path: PathBuf::from("tenantry.toml"), text: text.to_owned() };
    Settings::from_sources(Some(&file).filter(|file| !file.text.is_empty()), &environment)
}

/// The problems as they are printed, one a line, without the heading.
fn problems(result: Result<Settings, SettingsError>) -> Vec<String> {
    result.unwrap_err().to_string().lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

const SQLITE: (&str, &str) = ("APPLICATION_DATABASE_URL", "sqlite:/srv/app.db");
const POSTGRES: (&str, &str) = ("DEFAULT_TENANT_DATA_URL", "postgresql://db.example.com/crm");

#[test]
fn the_smallest_settings_are_one_line_and_the_rest_is_what_the_reference_says() {
    let settings = read(&[SQLITE]).unwrap();
    assert_eq!(settings.application_database.url.as_str(), "sqlite:/srv/app.db");
    assert!(settings.default_data_source.is_none() && settings.keyring.is_none());
    // Each default in the reference, given explicitly, changes nothing: the table does not promise what the code does not do.
    let explicit: Vec<_> = SETTINGS
        .iter()
        .filter(|setting| {
            matches!(setting.kind, reference::Kind::Flag | reference::Kind::Duration | reference::Kind::Patience)
        })
        .chain([&MAX_CONNECTIONS, &TENANT_COLUMN, &TENANT_TYPE].iter())
        .map(|setting| (setting.variable, setting.default.unwrap()))
        .chain([SQLITE])
        .collect();
    assert_eq!(explicit.len(), 11);
    assert_eq!(format!("{:?}", read(&explicit).unwrap()), format!("{settings:?}"));
}

#[test]
fn the_original_names_give_a_postgresql_default_with_both_logins() {
    let settings = read(&[
        ("APPLICATION_DATABASE_URL", "postgres://owner:p%40ss@localhost/app"),
        POSTGRES,
        ("DEFAULT_TENANT_DATA_ANON_KEY", "restricted:se:cret"),
        ("DEFAULT_TENANT_DATA_SERVICE_KEY", r#"{"user":"service","password":"x"}"#),
        ("DEFAULT_TENANT_DATA_REGION", "us-east-1"),
        ("ENCRYPTION_KEY", KEY),
    ])
    .unwrap();
    assert_eq!(settings.application_database.url.as_str(), "postgresql://localhost:5432/app");
    assert_eq!(settings.application_database.login.unwrap().password.expose_secret(), "p@ss");
    let source = settings.default_data_source.unwrap();
    let logins = source.logins.unwrap();
    assert_eq!((logins.restricted.user.as_str(), logins.service.user.as_str()), ("restricted", "service"));
    assert_eq!(logins.restricted.password.expose_secret(), "se:cret");
    assert_eq!(source.region.as_deref(), Some("us-east-1"));
    assert!(settings.keyring.is_some());
}

#[test]
fn one_sqlite_file_per_tenant() {
    let settings = read(&[SQLITE, ("DEFAULT_TENANT_DATA_URL", "sqlite:/srv/tenants/{tenant_id}.db")]).unwrap();
    let template = settings.default_data_source.unwrap().url;
    assert!(template.is_per_tenant());
    let tenant = Uuid::from_u128(7);
    assert_eq!(template.for_tenant(tenant).unwrap().as_str(), format!("sqlite:/srv/tenants/{tenant}.db"));
}

#[test]
fn the_environment_wins_over_the_file_and_an_empty_variable_does_not() {
    let file = "application_database_url = \"sqlite:/srv/file.db\"\nmax_connections = 3\npool_cache = 90\nfallback_to_application_database = true";
    let settings = read_with_file(file, &[SQLITE, ("TENANTRY_MAX_CONNECTIONS", "")]).unwrap();
    assert_eq!(settings.application_database.url.as_str(), "sqlite:/srv/app.db");
    assert_eq!((settings.max_connections, settings.pool_cache), (3, Duration::from_secs(90)));
    assert!(settings.fallback_to_application_database);
}

/// Catches a name that is cut at its comma, and a list of the file that is taken for text.
#[test]
fn isolation_exceptions_are_a_list_of_names() {
    let name = "TENANTRY_ISOLATION_EXCEPTIONS";
    let settings = read(&[SQLITE, (name, " f(integer, text); trigger tenantry_write_log on notes ;; ")]).unwrap();
    assert_eq!(settings.isolation_exceptions, ["f(integer, text)", "trigger tenantry_write_log on notes"]);
    let file = "isolation_exceptions = ['f(integer, text)', 'a;b']";
    assert_eq!(read_with_file(file, &[SQLITE]).unwrap().isolation_exceptions, ["f(integer, text)", "a;b"]);
    assert_eq!(read_with_file(file, &[SQLITE, (name, "c")]).unwrap().isolation_exceptions, ["c"]);
    for wrong in ["isolation_exceptions = { a = 1 }", "isolation_exceptions = [['a']]"] {
        let found = problems(read_with_file(wrong, &[SQLITE]));
        assert!(found[0].contains("(tenantry.toml): something else than texts was found; expected names"), "{found:?}");
    }
}

#[test]
fn everything_wrong_is_reported_at_once_by_name() {
    let found = problems(read_with_file(
        "max_conections = 3\ntenant_type = \"int\"\n[database]\nurl = \"x\"",
        &[
            POSTGRES,
            ("DEFAULT_TENANT_DATA_SERVICE_KEY", "nocolon"),
            ("ENCRYPTION_KEY", "abcd"),
            ("FALLBACK_TO_APPLICATION_DATABASE", "maybe"),
            ("TENANTRY_ACQUIRE_TIMOUT", "5s"),
            ("TENANTRY_POOL_CACHE", "1 fortnight"),
            ("TENANTRY_TENANT_COLUMN", "tenant\"; --"),
        ],
    ));
    for expected in [
        "APPLICATION_DATABASE_URL is not set; expected `postgresql://host:5432/database` or `sqlite:/absolute/path.db`",
        "DEFAULT_TENANT_DATA_ANON_KEY is not set (DEFAULT_TENANT_DATA_URL is a PostgreSQL URL); expected `user:password`",
        "DEFAULT_TENANT_DATA_SERVICE_KEY (environment): ",
        "ENCRYPTION_KEY (environment): ",
        "FALLBACK_TO_APPLICATION_DATABASE (environment): found \"maybe\", it is neither; expected `true` or `false`",
        "max_conections (tenantry.toml) is no setting; did you mean max_connections?",
        "database (tenantry.toml) is no setting",
        "TENANTRY_ACQUIRE_TIMOUT (environment) is no setting; did you mean TENANTRY_ACQUIRE_TIMEOUT?",
        "TENANTRY_TENANT_TYPE (tenantry.toml): found \"int\", it is no such type; expected `uuid`, `bigint` or `text`",
        "TENANTRY_POOL_CACHE (environment): found \"1 fortnight\", its unit is unknown; expected a number",
        "TENANTRY_TENANT_COLUMN (environment): found ",
    ] {
        assert!(found.iter().any(|line| line.starts_with(expected)), "no line begins with {expected:?} in {found:#?}");
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn names_in_the_file_that_are_nearly_right_are_told_the_right_one() {
    for (written, meant) in [
        ("APPLICATION_DATABASE_URL", "application_database_url"),
        ("application-database-url", "application_database_url"),
        ("tenantry_pool_cache", "pool_cache"),
        ("default_tenant_data_anonkey", "default_tenant_data_anon_key"),
        ("tenant_columns", "tenant_column"),
    ] {
        let found = problems(read_with_file(&format!("\"{written}\" = \"x\""), &[SQLITE]));
        assert_eq!(found, [format!("{written} (tenantry.toml) is no setting; did you mean {meant}?")]);
    }
    let found = problems(read_with_file("colour = 1\nconfig = 'x'", &[SQLITE]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("is no setting; docs/settings.md lists all of them"), "{found:?}");
}

#[test]
fn logins_must_fit_the_engine() {
    let file = ("DEFAULT_TENANT_DATA_URL", "sqlite:/srv/t.db");
    let found = problems(read(&[SQLITE, file, ("DEFAULT_TENANT_DATA_ANON_KEY", "a:b")]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("SQLite file, which has no logins"), "{found:?}");

    let found = problems(read(&[SQLITE, ("DEFAULT_TENANT_DATA_SERVICE_KEY", "a:b")]));
    assert!(found[0].starts_with("DEFAULT_TENANT_DATA_URL is not set (a login for it is set)"), "{found:?}");

    let found = problems(read(&[("APPLICATION_DATABASE_URL", "postgresql://localhost/app")]));
    assert!(found[0].contains("the URL carries no login"), "{found:?}");

    let found = problems(read(&[SQLITE, ("DEFAULT_TENANT_DATA_URL", "postgresql://localhost/{tenant_id}")]));
    assert!(found[0].contains("only SQLite paths may"), "{found:?}");
    let found = problems(read(&[SQLITE, ("DEFAULT_TENANT_DATA_URL", "sqlite:/srv/{tenant}.db")]));
    assert!(found[0].contains("braces"), "{found:?}");
}

#[test]
fn keys_of_both_settings_make_one_ring_with_one_active() {
    let named = format!("2026={KEY}, 2027={OTHER_KEY}");
    let found = problems(read(&[SQLITE, ("ENCRYPTION_KEYS", &named)]));
    assert!(
        found[0].starts_with("ENCRYPTION_KEY_ACTIVE is not set (there are several keys: `2026`, `2027`)"),
        "{found:?}"
    );
    let found = problems(read(&[SQLITE, ("ENCRYPTION_KEYS", &named), ("ENCRYPTION_KEY_ACTIVE", "2028")]));
    assert!(found[0].contains("found \"2028\", which is no key's id; expected `2026`, `2027`"), "{found:?}");
    let found = problems(read(&[SQLITE, ("ENCRYPTION_KEY_ACTIVE", "2028")]));
    assert!(found[0].starts_with("ENCRYPTION_KEYS is not set"), "{found:?}");
    let twice = format!("default={OTHER_KEY}");
    let found = problems(read(&[SQLITE, ("ENCRYPTION_KEY", KEY), ("ENCRYPTION_KEYS", &twice)]));
    assert!(found[0].contains("key 1 of the list has the id of another key"), "{found:?}");

    let ring = read(&[SQLITE, ("ENCRYPTION_KEY", KEY), ("ENCRYPTION_KEYS", &named), ("ENCRYPTION_KEY_ACTIVE", "2027")]);
    let ring = ring.unwrap().keyring.unwrap();
    let login = Login::new("u", "p".to_owned()).unwrap();
    let column = tenantry_credential::CredentialColumn::Anon;
    let sealed = ring.seal(Uuid::nil(), column, &login).unwrap();
    assert!(sealed.starts_with("v1:2027:"), "the active key seals");
    let before = read(&[SQLITE, ("ENCRYPTION_KEY", KEY)]).unwrap().keyring.unwrap();
    let sealed = before.seal(Uuid::nil(), column, &login).unwrap();
    assert!(
        ring.open(Uuid::nil(), column, &sealed).is_ok(),
        "what ENCRYPTION_KEY sealed before a rotation still opens"
    );

    let found = problems(read(&[
        SQLITE,
        POSTGRES,
        ("DEFAULT_TENANT_DATA_ANON_KEY", "a:b"),
        ("DEFAULT_TENANT_DATA_SERVICE_KEY", "c:d"),
    ]));
    assert!(found[0].starts_with("ENCRYPTION_KEY is not set (the default data source has logins"), "{found:?}");
}

#[test]
fn a_broken_file_is_placed_but_not_quoted() {
    let text = "max_connections = 3\nencryption_key = \"hunter2\nrest";
    let error = read_with_file(text, &[SQLITE]).unwrap_err();
    let all = format!("{error} {error:?}");
    assert!(error.to_string().contains("tenantry.toml is not valid TOML at line "), "{error}");
    assert!(!all.contains("hunter2"), "{all}");
}

/// Whatever is wrong, neither the error's text nor its `Debug` form shows a secret; nor do settings that are right.
#[test]
fn no_secret_is_ever_printed() {
    let secret = "hunter2hunter2";
    let with = |text: &str| text.replace('*', secret);
    let cases = [
        ("APPLICATION_DATABASE_URL", with("postgresql://owner:*@localhost/app?bad=1")),
        ("APPLICATION_DATABASE_URL", with("postgresql://owner:*@localhost")),
        ("APPLICATION_DATABASE_URL", with("mysql://owner:*@localhost/app")),
        ("APPLICATION_DATABASE_URL", with("owner:*")),
        ("APPLICATION_DATABASE_URL", with("postgresql://owner:*@local host/app")),
        ("DEFAULT_TENANT_DATA_URL", with("postgresql://owner:*@localhost/app")),
        ("DEFAULT_TENANT_DATA_URL", with("postgresql://localhost/app?password=*")),
        ("DEFAULT_TENANT_DATA_ANON_KEY", with("*")),
        ("DEFAULT_TENANT_DATA_ANON_KEY", with(":*")),
        ("DEFAULT_TENANT_DATA_SERVICE_KEY", with(r#"{"user":"u","pass":"*"}"#)),
        ("DEFAULT_TENANT_DATA_SERVICE_KEY", with(r#"{"user":"u","password":"*""#)),
        ("ENCRYPTION_KEY", with("*")),
        ("ENCRYPTION_KEYS", with("*")),
        ("ENCRYPTION_KEYS", with("a=*,a=*")),
        ("ENCRYPTION_KEYS", with("a*")),
    ];
    for (name, value) in cases {
        let mut variables = vec![SQLITE, (name, value.as_str())];
        variables.reverse();
        variables.dedup_by_key(|(name, _)| *name);
        let error = read(&variables).map(|_| ()).unwrap_err();
        let mut shown = format!("{error}\n{error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            shown.push_str(&inner.to_string());
            source = inner.source();
        }
        assert!(!shown.contains(secret), "{name} = {value:?} is shown in:\n{shown}");
    }
    // A key put where its id belongs is a secret all the same.
    for (name, value) in [("ENCRYPTION_KEYS", format!("{KEY}=2026")), ("ENCRYPTION_KEY_ACTIVE", KEY.to_owned())] {
        let error = read(&[SQLITE, ("ENCRYPTION_KEY", OTHER_KEY), (name, &value)]).unwrap_err();
        assert!(!format!("{error}\n{error:?}").contains(KEY), "{error}");
    }
    let settings = read(&[
        ("APPLICATION_DATABASE_URL", &with("postgresql://owner:*@localhost/app")),
        POSTGRES,
        ("DEFAULT_TENANT_DATA_ANON_KEY", &with("restricted:*")),
        ("DEFAULT_TENANT_DATA_SERVICE_KEY", &with("service:*")),
        ("ENCRYPTION_KEY", KEY),
    ])
    .unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains(secret) && !shown.contains(KEY), "{shown}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_a_problem_only_if_it_is_ours() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || OsString::from_vec(vec![0xff]);
    let (environment, problems) = readable(
        [("SOMEBODY_ELSES".into(), broken()), ("ENCRYPTION_KEY".into(), broken()), ("HOME".into(), "/root".into())]
            .into_iter(),
    );
    assert_eq!(environment.len(), 1);
    assert_eq!(problems.iter().map(Problem::setting).collect::<Vec<_>>(), ["ENCRYPTION_KEY"]);
}
