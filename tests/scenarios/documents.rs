//! The pages about splitting a database and about going back, carried out as they stand: their shell blocks are run in order against
//! the sample, with no more in the environment than the pages tell the reader to put there. Then things are broken, and the commands have
//! to say so. The page about errors is held to the messages in the sources, and every block
//! of code to what would use it.

mod blocks;
mod errors;
mod page;
pub(crate) mod shell;

use tenantry_test_support::{
    cluster::{Cluster, ClusterError},
    sample::{self, TENANTS},
};

use page::Page;
use shell::Shell;

const SPLITTING: &str = "docs/splitting-a-single-database.md";
const ROLLBACK: &str = "docs/rollback.md";

/// Needs escaping wherever it goes: a page that quotes carelessly fails here and not with a reader.
const AWKWARD: &str = r#"p@ss:/%'"\ ?#&=+$é{},;"#;

/// Catches a page whose commands do not do what it says, and commands that do not notice what was broken behind their back.
#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_pages_hold_and_what_is_broken_is_named() {
    let cluster = Cluster::start().unwrap();
    let legacy = cluster.create_database("crm").unwrap();
    sample::create_postgres(&legacy.url_with(&legacy.service)).await.unwrap();

    let splitting = Page::read(SPLITTING).section("On PostgreSQL");
    let mut shell = Shell::new(&[cluster.bindir()]);
    let (service_password, restricted_password) = (format!("{AWKWARD}service"), format!("{AWKWARD}restricted"));
    shell.set("PGHOST", "127.0.0.1");
    shell.set("PGPORT", &cluster.port().to_string());
    shell.set("PGUSER", &cluster.superuser().user);
    shell.set("PGPASSWORD", &cluster.superuser().password);
    shell.set("LEGACY_DATABASE", &legacy.name);
    shell.set("APPLICATION_DATABASE_URL", &legacy.url_with(&legacy.service));
    shell.set("DATA_DATABASE", "tenants");
    shell.set("SERVICE_USER", "tenants.service");
    shell.set("SERVICE_PASSWORD", &service_password);
    shell.set("RESTRICTED_USER", "tenants.restricted");
    shell.set("RESTRICTED_PASSWORD", &restricted_password);
    shell.set("FIRST_TENANT", "acme");
    let backups = shell.folder("backups");
    shell.set("BACKUP_FOLDER", &backups);
    assert_eq!(
        splitting.reader_sets(),
        shell.names(),
        "the page names what the reader has to set, and nothing else is needed"
    );

    let said = shell.run_blocks(&splitting);
    let backup = std::fs::metadata(format!("{backups}/{}.dump", legacy.name)).unwrap();
    assert!(backup.len() > 10_000, "the backup holds the sample: {} bytes", backup.len());
    said.after("cargo xtask migrate up").contains(&["application database", "data source", "up to date"]);
    said.after("cargo xtask check-tenant-config").contains(&["3 tenants, 0 errors, 3 warnings"]);
    let rehearsal = said.after("--all --dry-run");
    rehearsal.contains(&["253 records in 13 tables", "58 records in 13 tables", "3 tenants, 0 not done"]);
    assert_eq!(rehearsal.text().matches(": would copy").count(), 3, "{}", rehearsal.text());
    said.after("--tenant \"$FIRST_TENANT\"\n").contains(&["acme: fence", ": placed", "58 records in 13 tables"]);
    said.after("--tenant \"$FIRST_TENANT\" --verify").contains(&[
        ": verified",
        "policy",
        "only there",
        "3 tenants, 2 databases looked into, 0 wrong",
    ]);
    let psql = said.after("psql -At");
    psql.contains(&["unrecognized configuration parameter \"app.tenant_id\"", &format!("{} |     5", TENANTS[1].id)]);
    for other in [&TENANTS[0], &TENANTS[2]] {
        assert!(!psql.text().contains(&other.id.to_string()), "another tenant's rows: {}", psql.text());
    }
    said.after("FALLBACK_TO_APPLICATION_DATABASE=true").contains(&["fallback", "predicate only", "3 tenants, 0 wrong"]);
    said.after("migrate-tenant-data --all\n").contains(&[
        "default → postgresql://",
        "253 records in 13 tables",
        "17 records in 13 tables",
        "3 tenants, 0 not done",
        "3 tenants, 2 databases looked into, 0 wrong",
        "3 tenants, 0 errors, 0 warnings",
        "rows of 3, of no other",
        " 0 do not, 0 not measured",
    ]);
    let key = shell.get("ENCRYPTION_KEY");
    assert_eq!(key.len(), 64);
    for secret in [&service_password, &restricted_password, &key, &legacy.service.password] {
        assert!(!said.text().contains(secret.as_str()), "a secret was printed: {secret}");
    }

    a_kept_row_is_fenced(&legacy);
    let said = shell.run_blocks(&Page::read(ROLLBACK));
    said.after("--rollback").contains(&[": rolled back", "58 rows were deleted from the data source"]);
    said.after("--tenant \"$FIRST_TENANT\"\n").contains(&[": placed", "58 records in 13 tables"]);

    a_lost_row_is_named_and_comes_back_lost(&shell);
    broken_isolation_is_named(&shell);
}

/// The page shows what psql says; catches a split after which the old database can still be written to.
fn a_kept_row_is_fenced(legacy: &tenantry_test_support::cluster::Database) {
    let sql = format!("UPDATE accounts SET name = name WHERE tenant_id = '{}'", TENANTS[1].id);
    let error: ClusterError = legacy.psql(&legacy.service, &sql).unwrap_err();
    assert_eq!(error.sqlstate(), Some("TN001"), "{error}");
    let page = Page::read(SPLITTING);
    for part in
        [": kept, moved to postgresql://", "Ask the application database again where the tenant is, and retry there."]
    {
        assert!(error.to_string().contains(part) && page.text().contains(part), "{part:?}: {error}");
    }
}

/// A row that disappears from a data source after the split: the verification names it, and going back takes the deletion along.
fn a_lost_row_is_named_and_comes_back_lost(shell: &Shell) {
    let default = TENANTS[0].id;
    let (data, legacy) = (shell.get("DATA_DATABASE"), shell.get("LEGACY_DATABASE"));
    let lost = shell.psql(
        &data,
        &format!(
            "DELETE FROM notes WHERE ctid = (SELECT min(ctid) FROM notes WHERE tenant_id = '{default}') RETURNING id"
        ),
    );
    let lost = lost.lines().next().unwrap();
    let named = format!("notes: 1 missing, 0 extra, 0 different ({lost} missing)");
    shell.fails("cargo xtask migrate-tenant-data --tenant default --verify").contains(&["WRONG", &named]);

    shell.psql(&legacy, &format!("UPDATE tenantry.fence SET reason = 'by hand' WHERE tenant_id = '{default}'"));
    let kept = shell.psql(&legacy, &format!("SELECT count(*) FROM notes WHERE id = '{lost}'"));
    assert_eq!(kept.trim(), "1");
    shell.fails("cargo xtask migrate-tenant-data --tenant default --rollback").contains(&["by hand"]);
    let transfer = shell.succeeds("cargo xtask transfer status default --json");
    let transfer: serde_json::Value = serde_json::from_str(transfer.text().trim()).unwrap();
    let reason = format!("transfer {}: kept, moved to elsewhere", transfer["id"].as_str().unwrap());
    shell.psql(&legacy, &format!("UPDATE tenantry.fence SET reason = '{reason}' WHERE tenant_id = '{default}'"));
    shell
        .succeeds("cargo xtask migrate-tenant-data --tenant default --rollback")
        .contains(&["252 records in 13 tables"]);
    let kept = shell.psql(&legacy, &format!("SELECT count(*) FROM notes WHERE id = '{lost}'"));
    assert_eq!(kept.trim(), "0", "what was deleted stays deleted");
    shell.psql(&legacy, &format!("UPDATE accounts SET name = name WHERE tenant_id = '{default}'"));
    shell.succeeds("cargo xtask migrate-tenant-data --tenant default").contains(&["252 records in 13 tables"]);
}

/// Each is broken at once with the others, and the SQL that the checklist offers puts it right.
fn broken_isolation_is_named(shell: &Shell) {
    let data = shell.get("DATA_DATABASE");
    shell.psql(&data, "DROP POLICY tenantry_restricted ON accounts");
    shell.psql(&data, "ALTER ROLE \"tenants.restricted\" BYPASSRLS");
    shell.psql(&data, "DROP TRIGGER tenantry_fence ON events");
    let checklist = shell.fails("cargo xtask test-dual-database");
    checklist.contains(&[
        "accounts in postgresql://",
        "the strict policy of the restricted role tenants.restricted is missing",
        "role tenants.restricted in postgresql://",
        "it has BYPASSRLS",
        "trigger tenantry_fence on events in postgresql://",
        "it is missing: a transfer would lose what is written meanwhile",
    ]);
    shell.fails("cargo xtask test-data-source --tenant acme").contains(&["it has BYPASSRLS"]);
    shell.fails("cargo xtask migrate up --data-sources").contains(&["it bypasses row-level security"]);

    let remedies: Vec<_> = checklist
        .text()
        .lines()
        .filter(|line| line.starts_with("failed: isolation: "))
        .filter_map(|line| Some(line.split_once("; ")?.1))
        .collect();
    assert_eq!(remedies.len(), 3, "{}", checklist.text());
    for remedy in remedies {
        shell.psql(&data, remedy);
    }
    shell.succeeds("cargo xtask test-data-source --tenant acme").contains(&["1 tenants, 0 wrong"]);
}

/// Catches a page whose commands do not do what it says, without a server.
#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_the_page_holds() {
    let splitting = Page::read(SPLITTING).section("On SQLite");
    let mut shell = Shell::new(&[]);
    let (old, backups) = (shell.folder("old place"), shell.folder("backups"));
    let legacy = format!("{old}/crm.db");
    sample::create_sqlite(std::path::Path::new(&legacy)).await.unwrap();
    shell.set("LEGACY_FILE", &legacy);
    shell.set("BACKUP_FOLDER", &backups);
    let tenants = format!("{old}/tenants");
    shell.set("TENANT_FOLDER", &tenants);
    assert_eq!(
        splitting.reader_sets(),
        shell.names(),
        "the page names what the reader has to set, and nothing else is needed"
    );

    let said = shell.run_blocks(&splitting);
    said.contains(&[
        ": would copy",
        "253 records in 13 tables",
        "3 tenants, 0 not done",
        ": verified",
        "3 tenants, 4 databases looked into, 0 wrong",
        "predicate only",
        " 0 do not, 0 not measured",
    ]);
    let file = format!("{tenants}/{}.db", TENANTS[0].id);
    for path in [&format!("{backups}/crm.db"), &file] {
        assert!(std::fs::metadata(path).is_ok_and(|file| file.is_file()), "{path} is missing");
    }

    shell.set("FIRST_TENANT", "acme");
    let said = shell.run_blocks(&Page::read(ROLLBACK));
    said.after("--rollback").contains(&[": rolled back", "58 rows were deleted from the data source"]);

    // Behind everyone's back, as SQLite's own shell would.
    let lost = format!("sqlite:{file}");
    let lost =
        shell::sqlite(&lost, "DELETE FROM notes WHERE rowid = (SELECT min(rowid) FROM notes) RETURNING lower(hex(id))")
            .await;
    let lost = uuid::Uuid::parse_str(&lost).unwrap();
    let named = format!("notes: 1 missing, 0 extra, 0 different ({lost} missing)");
    shell.fails("cargo xtask migrate-tenant-data --tenant default --verify").contains(&["WRONG", &named]);
}
