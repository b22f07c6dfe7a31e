//! Migrating: roles that are refused, where objects land, two runners at once, rolling back.

use sea_orm_migration::schema::{integer_null, text, uuid_null};
use sea_orm_migration::{MigratorTrait, SchemaManager};
use tenantry_migrations::{
    AppDbMigrator, Migrator, OnDelete, TenantDataMigrator, TenantDataSettings, TenantTable, prepare_tenant_data,
};
use tenantry_test_support::cluster::{Cluster, Database};

use super::{
    A, B, connect, insert_account, migrate_app_db, migrate_tenant_data, refused, restricted, service, tenant_data,
};

fn superuser(database: &Database, sql: &str) {
    database.psql(&database.superuser, sql).unwrap();
}

async fn refusal(database: &Database, role: &str) -> String {
    let connection = connect(database, &database.service).await;
    let settings = TenantDataSettings { restricted_role: role.to_owned(), ..Default::default() };
    let refusal = prepare_tenant_data(&connection, &settings).await.unwrap_err().to_string();
    connection.close().await.unwrap();
    refusal
}

// Trap 20. Catches a restricted role that row-level security would not hold back.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_too_strong_is_refused_with_the_remedy() {
    let database = Cluster::shared().unwrap().create_database("schema_roles").unwrap();
    let (role, service_role) = (database.restricted.user.clone(), database.service.user.clone());
    for (grant, expected, revoke) in [
        ("SUPERUSER", "is a superuser", "NOSUPERUSER"),
        ("BYPASSRLS", "bypasses row-level security", "NOBYPASSRLS"),
        ("CREATEROLE", "may create roles", "NOCREATEROLE"),
        ("REPLICATION", "may replicate", "NOREPLICATION"),
    ] {
        superuser(&database, &format!("ALTER ROLE \"{role}\" {grant};"));
        let refusal = refusal(&database, &role).await;
        assert!(
            refusal.contains(expected) && refusal.contains(&format!("ALTER ROLE \"{role}\" {revoke}")),
            "{refusal}"
        );
        superuser(&database, &format!("ALTER ROLE \"{role}\" {revoke};"));
    }
    let group = format!("{role}.group");
    superuser(
        &database,
        &format!("CREATE ROLE \"{group}\"; GRANT \"{service_role}\" TO \"{group}\"; GRANT \"{group}\" TO \"{role}\";"),
    );
    let told = refusal(&database, &role).await;
    assert!(told.contains(&format!("REVOKE \"{group}\" FROM \"{role}\"")), "{told}");
    superuser(&database, &format!("DROP ROLE \"{group}\"; GRANT pg_read_all_data TO \"{role}\";"));
    let told = refusal(&database, &role).await;
    assert!(told.contains("member of pg_read_all_data"), "{told}");
    superuser(
        &database,
        &format!(
            "REVOKE pg_read_all_data FROM \"{role}\"; CREATE TABLE mine (id int); ALTER TABLE mine OWNER TO \"{role}\";"
        ),
    );
    let told = refusal(&database, &role).await;
    assert!(told.contains("owns the table public.mine"), "{told}");
    superuser(&database, "DROP TABLE mine;");
    let told = refusal(&database, &service_role).await;
    assert!(told.contains("it is the service role itself"), "{told}");
    let told = refusal(&database, "no such \"role").await;
    assert!(told.contains("does not exist") && told.contains(r#"CREATE ROLE "no such ""role" LOGIN"#), "{told}");
    let told = refusal(&database, "").await;
    assert!(told.contains("no restricted role is set"), "{told}");
    migrate_tenant_data(&database).await.unwrap();
    let told = refusal(&database, "another").await;
    assert!(told.contains("installed with restricted_role"), "{told}");
}

// Trap 29. Catches an object that lands where search_path points.
#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_in_its_schema_whatever_the_search_path() {
    let database = Cluster::shared().unwrap().create_database("schema_path").unwrap();
    let role = &database.service.user;
    service(
        &database,
        &format!(
            "CREATE SCHEMA \"{role}\"; CREATE SCHEMA other; ALTER ROLE \"{role}\" SET search_path = other, \"{role}\", public;"
        ),
    );
    for _ in 0..2 {
        migrate_app_db(&database).await.unwrap();
        migrate_tenant_data(&database).await.unwrap();
    }
    assert_eq!(
        service(
            &database,
            "SELECT DISTINCT n.nspname FROM (
                 SELECT relnamespace AS schema FROM pg_class UNION ALL SELECT pronamespace FROM pg_proc
                 UNION ALL SELECT connamespace FROM pg_constraint UNION ALL SELECT typnamespace FROM pg_type) AS o
               JOIN pg_namespace AS n ON n.oid = o.schema
              WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1;"
        ),
        "public\ntenantry"
    );
    assert_eq!(
        service(
            &database,
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace AND prosecdef
                AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false);"
        ),
        "0",
        "a function that runs in its owner's name pins its search path"
    );
    // And the triggers find what they need from anywhere.
    restricted(
        &database,
        A,
        &format!("SET search_path = other; {}", insert_account(A).replace("INTO ", "INTO public.")),
    );
    assert_eq!(service(&database, "SELECT count(*) FROM public.write_log;"), "1");
}

// Traps 26 and 27. Catches two runners that fail each other or apply a migration twice.
#[tokio::test(flavor = "multi_thread")]
async fn runners_at_once_wait_for_each_other() {
    let database = Cluster::shared().unwrap().create_database("schema_runners").unwrap();
    let (one, two, three, four) = tokio::join!(
        migrate_tenant_data(&database),
        migrate_app_db(&database),
        migrate_tenant_data(&database),
        migrate_app_db(&database)
    );
    for result in [one, two, three, four] {
        result.unwrap();
    }
    assert_eq!(
        service(
            &database,
            "SELECT count(*) FROM tenantry_tenant_data_migrations; SELECT count(*) FROM tenantry_app_db_migrations;"
        ),
        format!("2\n{}", AppDbMigrator::migrations().len())
    );
}

// Catches a rollback that throws rows away, and one that leaves objects behind or takes the other migrator's along.
#[tokio::test(flavor = "multi_thread")]
async fn down_refuses_rows_and_otherwise_leaves_nothing() {
    let database = tenant_data().await;
    migrate_app_db(&database).await.unwrap();
    let connection = connect(&database, &database.service).await;
    restricted(&database, A, &insert_account(A));
    let told = TenantDataMigrator::down(&connection, None).await.unwrap_err().to_string();
    assert!(told.contains("table accounts has 1 row(s)"), "{told}");
    service(&database, "DELETE FROM accounts;");
    let told = TenantDataMigrator::down(&connection, None).await.unwrap_err().to_string();
    assert!(told.contains("table write_log has 2 row(s)"), "{told}");
    service(&database, &format!("DELETE FROM write_log; SELECT tenantry.raise_fence('{A}', 'moving');"));
    let told = TenantDataMigrator::down(&connection, None).await.unwrap_err().to_string();
    assert!(told.contains(&format!("the fence is up for {A}")), "{told}");
    service(&database, &format!("SELECT tenantry.lower_fence('{A}');"));
    TenantDataMigrator::down(&connection, None).await.unwrap();
    let told = TenantDataMigrator::fresh(&connection).await.unwrap_err().to_string();
    assert!(told.contains("use `down`, then `up`"), "{told}");

    service(&database, "INSERT INTO tenants (name, subdomain) VALUES ('x', 'x');");
    let told = AppDbMigrator::down(&connection, None).await.unwrap_err().to_string();
    assert!(told.contains("table tenants has 1 row(s)"), "{told}");
    service(&database, "DELETE FROM tenants;");
    AppDbMigrator::down(&connection, None).await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(
        service(
            &database,
            "SELECT relname FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'tenantry') AND relkind = 'r' ORDER BY 1;
             SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace;
             SELECT nspname FROM pg_namespace WHERE nspname = 'tenantry';"
        ),
        "tenantry_app_db_migrations\ntenantry_tenant_data_migrations"
    );
}

/// What an application without the 13 business tables has.
type Own = Migrator<()>;

// Catches a table of an application's own that gets less than ours, or a tenant column of another name or type that does.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_s_own_tables_are_isolated_like_ours() {
    for (tenant_type, mine, other, unset) in
        [("uuid", A, B, "22P02"), ("bigint", "7", "8", "22P02"), ("text", "t-1", "t-2", "42704")]
    {
        let database = Cluster::shared().unwrap().create_database("schema_own").unwrap();
        let connection = connect(&database, &database.service).await;
        let settings = TenantDataSettings {
            restricted_role: database.restricted.user.clone(),
            tenant_column: "Org \"id".to_owned(),
            tenant_type: tenant_type.to_owned(),
        };
        prepare_tenant_data(&connection, &settings).await.unwrap();
        Own::up(&connection, None).await.unwrap();
        let manager = SchemaManager::new(&connection);
        let places = TenantTable::new("places").column(text("name")).unique(["name"]);
        let rooms = TenantTable::new("rooms")
            .column(uuid_null("place_id"))
            .column(integer_null("seats"))
            .references("place_id", "places", OnDelete::SetNull)
            .between("seats", 1, 100);
        places.create(&manager).await.unwrap();
        rooms.create(&manager).await.unwrap();

        let column = r#""Org ""id""#;
        let place = |tenant: &str| format!("INSERT INTO places ({column}, name) VALUES ('{tenant}', 'p');");
        restricted(&database, other, &place(other));
        restricted(
            &database,
            mine,
            &format!(
                "{} INSERT INTO rooms ({column}, place_id) SELECT {column}, id FROM places; DELETE FROM places; {}",
                place(mine),
                place(mine)
            ),
        );
        assert_eq!(restricted(&database, mine, "SELECT count(*) FROM places;"), "1");
        assert_eq!(
            restricted(&database, mine, &format!("SELECT place_id IS NULL, {column} FROM rooms;")),
            format!("t|{mine}")
        );
        assert_eq!(restricted(&database, mine, "SELECT count(*) FROM write_log;"), "5");
        assert_eq!(refused(&database, mine, &place(other)), "42501");
        assert_eq!(refused(&database, mine, &format!("UPDATE places SET {column} = '{other}';")), "TN002");
        assert_eq!(refused(&database, mine, "UPDATE rooms SET seats = 0;"), "23514");
        assert_eq!(refused(&database, "", "SELECT * FROM places;"), unset, "{tenant_type}");
        service(&database, &format!("SELECT tenantry.raise_fence('{mine}', 'moving');"));
        assert_eq!(refused(&database, mine, "DELETE FROM places;"), "TN001");
        service(
            &database,
            &format!(
                "SELECT tenantry.lower_fence('{mine}'); DELETE FROM rooms; DELETE FROM places; DELETE FROM write_log;"
            ),
        );
        let told = Own::down(&connection, None).await.unwrap_err().to_string();
        assert!(told.contains("tenant tables stand on it (places, rooms)"), "{told}");
        rooms.drop(&manager).await.unwrap();
        places.drop(&manager).await.unwrap();
        Own::down(&connection, None).await.unwrap();
        connection.close().await.unwrap();
    }
}
