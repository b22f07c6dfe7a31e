//! An application's own schema: whatever PostgreSQL can declare, and no table that this project has heard of.

use tenantry_connection::Engine;
use tenantry_transfer::{Endpoint, Refusal, Unwatched, plan};

use super::world::{Db, World, placed, tenant};

/// On both sides; the source knows no tenant in its keys, as older schemas do.
async fn declare(world: &World, sql: &str) {
    for db in [&world.source, &world.target] {
        db.execute(sql).await.unwrap();
    }
}

async fn rows(db: &Db, table: &str) -> Vec<String> {
    let sql = format!("SELECT t::text AS row FROM {table} AS t ORDER BY 1");
    db.query(&sql).await.iter().map(|row| row.try_get("", "row").unwrap()).collect()
}

/// Between two PostgreSQL databases every type travels: nothing is converted, and what the server computes is left to it.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_and_every_kind_of_table_travels() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    declare(
        &world,
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100); \
         CREATE COLLATION icu_de (provider = icu, locale = 'de-u-co-phonebk'); \
         CREATE TABLE \"Odd \"\"Näme\"\"\" (tenant_id uuid NOT NULL, \"Key\" text COLLATE icu_de NOT NULL, no int GENERATED ALWAYS AS IDENTITY, \
           old_no bigserial, parent text COLLATE icu_de, list int[], span tstzrange, gap interval, ratio double precision, exact numeric, \
           feel mood, part percent, place point, doc xml, spelled json, bits bit varying, code char(5), wall timestamp, net inet, \
           vector tsvector, doubled double precision GENERATED ALWAYS AS (ratio * 2) STORED, \
           PRIMARY KEY (tenant_id, \"Key\"), FOREIGN KEY (tenant_id, parent) REFERENCES \"Odd \"\"Näme\"\"\" (tenant_id, \"Key\")); \
         CREATE TABLE readings (tenant_id uuid NOT NULL, n bigint NOT NULL, at date NOT NULL, PRIMARY KEY (tenant_id, n)) PARTITION BY HASH (tenant_id); \
         CREATE TABLE readings_0 PARTITION OF readings FOR VALUES WITH (modulus 2, remainder 0); \
         CREATE TABLE readings_1 PARTITION OF readings FOR VALUES WITH (modulus 2, remainder 1); \
         CREATE TABLE parents (tenant_id uuid NOT NULL, id int NOT NULL, PRIMARY KEY (tenant_id, id)); \
         CREATE TABLE heirs (PRIMARY KEY (tenant_id, id)) INHERITS (parents); \
         CREATE TABLE preferences (tenant_id uuid PRIMARY KEY, theme text)",
    )
    .await;
    let (mine, theirs) = (acme.id, tenant("globex").id);
    world
        .source
        .execute(&format!(
            "INSERT INTO \"Odd \"\"Näme\"\"\" (tenant_id, \"Key\", parent, list, span, gap, ratio, exact, feel, part, place, doc, spelled, bits, code, wall, net, vector) \
             SELECT t, k, lag(k) OVER (PARTITION BY t), '{{1,NULL,3}}', '[2024-01-01,infinity)', '1 mon -3 days 00:00:00.000001', \
               CASE k WHEN 'a' THEN 'NaN' WHEN 'B' THEN '-infinity' ELSE 0.1 + 0.2 END, 'NaN', 'ok', 100, '(1,2)', '<a/>', '{{ \"b\": 1.0, \"b\": 2 }}', \
               '101', 'ab', '2024-01-01 00:00:00.5', '10.0.0.1/8', 'a:1 b:2' \
             FROM unnest(ARRAY['{mine}', '{theirs}']::uuid[]) AS t, unnest(ARRAY['a', 'B', 'ä', 'ae', 'z', '', 'ß', 'SS', '_']) AS k; \
             INSERT INTO readings SELECT t, n, '2024-01-01' FROM unnest(ARRAY['{mine}', '{theirs}']::uuid[]) AS t, generate_series(1, 1000) AS n; \
             INSERT INTO parents VALUES ('{mine}', 1); INSERT INTO heirs VALUES ('{mine}', 1), ('{mine}', 2); \
             INSERT INTO preferences VALUES ('{mine}', 'dark'), ('{theirs}', 'light')"
        ))
        .await
        .unwrap();
    for way in ["staged", "direct"] {
        let mut request = world.request(acme).await;
        if way == "direct" {
            request.target = Endpoint::new(world.target.superuser(), acme.id);
        }
        let report = placed(request.run(&Unwatched).await);
        assert!(report.agrees(), "{}", report.summary());
        let of = |table: &str| report.tables.iter().find(|found| found.table == table).unwrap().source;
        assert_eq!(
            [of("Odd \"Näme\""), of("readings"), of("parents"), of("heirs"), of("preferences")],
            [9, 1000, 1, 2, 1]
        );
        for table in ["\"Odd \"\"Näme\"\"\"", "readings", "heirs", "preferences"] {
            let expected: Vec<String> =
                rows(&world.source, table).await.into_iter().filter(|row| row.contains(&mine.to_string())).collect();
            assert_eq!(rows(&world.target, table).await, expected, "{way}: {table}");
        }
        // Rows that bring their own numbers leave a sequence behind, which would hand the same numbers out again.
        let next = "INSERT INTO \"Odd \"\"Näme\"\"\" (tenant_id, \"Key\") VALUES ";
        world.target.execute(&format!("{next} ('{theirs}', 'new')")).await.unwrap();
        let fresh = "SELECT count(*) FILTER (WHERE n > 1) AS n FROM (SELECT no, count(*) AS n FROM \"Odd \"\"Näme\"\"\" GROUP BY no \
             UNION ALL SELECT old_no, count(*) FROM \"Odd \"\"Näme\"\"\" GROUP BY old_no) AS numbers";
        assert_eq!(world.target.number(fresh).await, 0, "{way}");
        world.target.execute("DELETE FROM \"Odd \"\"Näme\"\"\" WHERE \"Key\" = 'new'").await.unwrap();
        world.rollback(acme, &Unwatched).await.unwrap();
    }
}

/// Types without a written meaning on both engines are refused by name when SQLite is on either side.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_means_nothing_on_the_other_engine_is_named() {
    let world = World::new(Engine::Postgres, Engine::Sqlite).await;
    let columns = "a double precision, b numeric(20,2), c timestamp, d int[], e numeric(15,2), f character varying(7), g smallint";
    world
        .source
        .execute(&format!("CREATE TABLE odd (tenant_id uuid NOT NULL, id uuid PRIMARY KEY, {columns})"))
        .await
        .unwrap();
    world
        .target
        .execute(
            "CREATE TABLE odd (tenant_id uuid_text NOT NULL, id uuid_text NOT NULL, a double, b real(20, 2), c datetime, d text, \
             e real(15, 2), f varchar(7), g smallint, PRIMARY KEY (tenant_id, id))",
        )
        .await
        .unwrap();
    let acme = tenant("acme");
    let request = world.request(acme).await;
    let plan = plan(&request.source, &request.target, &request.options, &Unwatched).await.unwrap();
    let columns: Vec<&str> = plan
        .refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::TypeDiffers { column, .. } => column.as_str(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(columns, ["a", "b", "c", "d"]);
}

/// A reference that only the target knows of, to a table that is not copied, must be there already.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_table_of_the_target_alone_is_looked_up_there() {
    let world = World::new(Engine::Postgres, Engine::Postgres).await;
    let acme = tenant("acme");
    world
        .target
        .execute(
            "CREATE TABLE countries (name text PRIMARY KEY); INSERT INTO countries VALUES ('US'); \
             ALTER TABLE locations ADD FOREIGN KEY (country) REFERENCES countries",
        )
        .await
        .unwrap();
    world
        .source
        .execute(&format!("UPDATE locations SET country = 'US' WHERE tenant_id = '{}'", acme.id))
        .await
        .unwrap();
    let request = world.request(acme).await;
    let look = || plan(&request.source, &request.target, &request.options, &Unwatched);
    assert_eq!(look().await.unwrap().refusals, []);
    world.target.execute("DELETE FROM countries").await.unwrap();
    let refusals = look().await.unwrap().refusals;
    let locations = acme.counts().iter().find(|(table, _)| *table == "locations").unwrap().1;
    let [Refusal::Dangling { table, parent, rows, samples, .. }] = &refusals[..] else { panic!("{refusals:#?}") };
    assert_eq!((table.as_str(), parent.as_str(), *rows), ("locations", "countries", locations));
    assert!(samples.iter().all(|sample| sample.referenced == "US"));
}
