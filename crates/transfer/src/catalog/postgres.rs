//! `pg_catalog`. Every name is qualified, so that no table of the schema can stand in front of a catalog.

use std::collections::BTreeMap;

use sea_orm::{QueryResult, TryGetable};
use tenantry_connection::{Engine, Transaction};

use super::{
    Access, Catalog, Column, ForeignKey, Rights, Table, Trigger, Unique, sort_tables,
    types::{self, Types},
};
use crate::{Error, kind::Kind, quote, rows::ask};

const TABLES: &str = "
SELECT c.relname::text AS name, c.relkind = 'p' AS partitioned, n.nspname::text AS schema,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AS can_select,
       pg_catalog.has_table_privilege(c.oid, 'INSERT') AS can_insert,
       pg_catalog.has_table_privilege(c.oid, 'DELETE') AS can_delete,
       pg_catalog.has_table_privilege(c.oid, 'TRIGGER') AS can_trigger,
       pg_catalog.row_security_active(c.oid) AS under_policies
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition";

const COLUMNS: &str = "
SELECT x.*, CASE WHEN x.sequence IS NULL THEN true
                 ELSE pg_catalog.has_sequence_privilege(x.sequence, 'SELECT')
                  AND pg_catalog.has_sequence_privilege(x.sequence, 'UPDATE') END AS counts
FROM (
SELECT c.relname::text AS table_name, a.attname::text AS name, a.attnum,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS declared, pg_catalog.format_type(a.atttypid, -1) AS plain, a.attnotnull AS not_null,
       a.atttypid::bigint AS type, t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AS builtin,
       CASE WHEN a.attcollation <> t.typcollation
            THEN (SELECT l.collname::text FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation) END AS collation,
       CASE t.typtype WHEN 'd' THEN EXISTS (SELECT FROM pg_catalog.pg_cast k
                                            WHERE k.castsource = 'text'::pg_catalog.regtype AND k.oid >= 16384 AND k.castmethod <> 'i')
            ELSE a.atttypid IN (SELECT k.casttarget FROM pg_catalog.pg_cast k
                                WHERE k.castsource = 'text'::pg_catalog.regtype AND k.oid >= 16384 AND k.castmethod <> 'i')
            END AS own_cast,
       a.atthasdef AS has_default, a.attgenerated <> '' AS generated, a.attidentity <> '' AS identity,
       CASE WHEN a.attgenerated <> '' THEN (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
            FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = a.attnum) END AS expression,
       -- The function alone takes longer than all the rest, and hardly any column has a sequence.
       CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                         AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
                         AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
            THEN pg_catalog.pg_get_serial_sequence(pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname)
            END AS sequence
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped
-- Otherwise the sequence is looked for each time that it is named above.
OFFSET 0) AS x
ORDER BY x.table_name, x.attnum";

/// A deferrable key cannot arbitrate ON CONFLICT, so it counts as unique but not as the primary key.
const UNIQUE: &str = "
SELECT c.relname::text AS table_name, x.relname::text AS name, i.indisprimary AND i.indimmediate AS is_primary,
       a.attname::text AS column_name
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.position <= i.indnkeyatts
ORDER BY c.relname, NOT i.indisprimary, x.relname, k.position";

/// Of this schema's tables, and of any other's that refer to them: deleting a row may take theirs along. A key of a single
/// partition, or one that refers to one, counts as its table's.
const FOREIGN_KEYS: &str = "
SELECT r.relname::text AS table_name, rn.nspname::text AS child_schema, k.conname::text AS name, u.position,
       CASE WHEN c.relispartition THEN pg_catalog.format('tableoid IN (SELECT relid FROM pg_catalog.pg_partition_tree(%L))',
                                                         pg_catalog.format('%I.%I', cn.nspname, c.relname)) END AS binds,
       pn.nspname::text AS referred_schema, p.relname::text AS referred,
       q.relname::text AS parent, qn.nspname::text AS parent_schema, a.attname::text AS column_name, pa.attname::text AS parent_column
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid) ELSE c.oid END
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
JOIN pg_catalog.pg_class q ON q.oid = CASE WHEN p.relispartition THEN pg_catalog.pg_partition_root(p.oid) ELSE p.oid END
JOIN pg_catalog.pg_namespace qn ON qn.oid = q.relnamespace
CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey))
  WITH ORDINALITY AS u (child_attnum, parent_attnum, position)
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.child_attnum
JOIN pg_catalog.pg_attribute pa ON pa.attrelid = p.oid AND pa.attnum = u.parent_attnum
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (rn.nspname = pg_catalog.current_schema() OR qn.nspname = pg_catalog.current_schema())
ORDER BY rn.nspname, r.relname, k.conname, k.oid, u.position";

/// Bits of `tgtype`: 4 insert, 8 delete. A rule rewrites what COPY does not even see, so it counts as a trigger that
/// nothing silences. A trigger of a single partition fires for the rows that are routed there, and counts as its table's.
const TRIGGERS: &str = "
SELECT r.relname::text AS table_name, t.tgname::text AS name, fn.nspname = 'tenantry' AS ours,
       t.tgtype & 4 > 0 AS on_insert, t.tgtype & 8 > 0 AS on_delete,
       t.tgenabled IN ('O', 'A') AS fires, t.tgenabled IN ('R', 'A') AS fires_silenced
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid) ELSE c.oid END
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE n.nspname = pg_catalog.current_schema() AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgparentid = 0
UNION ALL
SELECT c.relname::text, r.rulename::text, false, r.ev_type = '3', r.ev_type = '4', r.ev_enabled IN ('O', 'A'), true
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = pg_catalog.current_schema() AND c.relkind IN ('r', 'p') AND r.ev_enabled <> 'D'
ORDER BY 1, 2";

/// The policies that apply to this role: those TO it, TO a role it is a member of, and TO everybody.
const POLICIES: &str = "
SELECT c.relname::text AS table_name, p.polpermissive AS permissive, p.polcmd::text AS command,
       coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'true') = 'true' AS reads_all,
       coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'true')
         = 'true' AS writes_all
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = pg_catalog.current_schema() AND EXISTS (
  SELECT 1 FROM pg_catalog.unnest(p.polroles) AS r (role)
  WHERE CASE WHEN r.role = 0 THEN true ELSE pg_catalog.pg_has_role(r.role, 'USAGE') END)";

const RIGHTS: &str = "
SELECT coalesce(pg_catalog.current_schema(), '') AS schema, r.rolsuper OR r.rolbypassrls AS bypasses_policies,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP') AS temporary,
       pg_catalog.has_parameter_privilege('session_replication_role', 'SET') AS silences_triggers,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS creates_schemas,
       n.oid IS NOT NULL AS installed,
       -- Without USAGE on the schema even asking for its function is an error.
       CASE WHEN pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            THEN pg_catalog.to_regprocedure('tenantry.is_service()') IS NOT NULL ELSE false END AS callable
FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'tenantry' WHERE r.rolname = current_user";

pub(super) async fn read(transaction: &mut Transaction, tenant_column: &str) -> Result<Catalog, Error> {
    let asked = [RIGHTS, TABLES, COLUMNS, UNIQUE, FOREIGN_KEYS, TRIGGERS, POLICIES];
    let [rights, found, columns, unique, foreign_keys, triggers, permitted] = queries(transaction, asked).await?;
    let rights = rights.first().ok_or_else(|| Error::Request {
        problem: "the login's role is not in pg_roles; log in as a role of this server".to_owned(),
    })?;
    let schema: String = get(rights, "schema")?;
    let installed: bool = get(rights, "installed")?;
    let prepared = get::<bool>(rights, "callable")?
        && match query(transaction, "SELECT tenantry.is_service() AS is_service").await?.first() {
            Some(row) => get(row, "is_service")?,
            None => false,
        };
    let rights = Rights {
        bypasses_policies: get(rights, "bypasses_policies")?,
        temporary: get(rights, "temporary")?,
        silences_triggers: get(rights, "silences_triggers")?,
        installs_fence: prepared || (!installed && get(rights, "creates_schemas")?),
        prepared,
    };

    let mut tables = BTreeMap::new();
    for row in found {
        let table = table(&row)?;
        tables.insert(table.name.clone(), table);
    }
    // Most schemas define no type, and need not pay for the question.
    let mut types = Types::default();
    for row in &columns {
        if !get::<bool>(row, "builtin")? {
            types = Types::new(&query(transaction, types::TYPES).await?)?;
            break;
        }
    }
    for row in columns {
        let declared: String = get(&row, "declared")?;
        let column = Column {
            name: get(&row, "name")?,
            kind: Kind::from_postgres(&declared),
            declared,
            plain: get(&row, "plain")?,
            definition: types.definition(get(&row, "type")?),
            collation: get(&row, "collation")?,
            not_null: get(&row, "not_null")?,
            has_default: get(&row, "has_default")?,
            generated: get(&row, "generated")?,
            expression: get(&row, "expression")?,
            identity: get(&row, "identity")?,
            sequence: get(&row, "sequence")?,
            counts: get(&row, "counts")?,
            own_cast: get(&row, "own_cast")?,
        };
        if let Some(table) = of(&mut tables, &row)? {
            table.columns.push(column);
        }
    }
    for row in unique {
        let (name, column): (String, String) = (get(&row, "name")?, get(&row, "column_name")?);
        let is_primary: bool = get(&row, "is_primary")?;
        let Some(table) = of(&mut tables, &row)? else { continue };
        if is_primary {
            table.primary_key.push(column.clone());
        }
        match table.unique.last_mut().filter(|unique| unique.name == name) {
            Some(unique) => unique.columns.push(column),
            None => table.unique.push(Unique { name, columns: vec![column] }),
        }
    }
    let mut outsiders = Vec::new();
    for row in foreign_keys {
        let (name, parent): (String, String) = (get(&row, "name")?, get(&row, "parent")?);
        let parent_schema: String = get(&row, "parent_schema")?;
        let child_schema: String = get(&row, "child_schema")?;
        if child_schema != schema {
            outsiders.push((format!("{child_schema}.{}", get::<String>(&row, "table_name")?), parent));
            continue;
        }
        let columns = (get(&row, "column_name")?, get(&row, "parent_column")?);
        let begins = get::<i64>(&row, "position")? == 1;
        let Some(table) = of(&mut tables, &row)? else { continue };
        match table.foreign_keys.last_mut().filter(|_| !begins) {
            Some(key) => key.columns.push(columns),
            None => {
                let parent_from =
                    qualified(&get::<String>(&row, "referred_schema")?, &get::<String>(&row, "referred")?);
                // A table of the same name in another schema is no tenant table of this one.
                let parent = if parent_schema == schema { parent } else { format!("{parent_schema}.{parent}") };
                let binds = get(&row, "binds")?;
                table.foreign_keys.push(ForeignKey { name, binds, parent, parent_from, columns: vec![columns] });
            }
        }
    }
    for row in triggers {
        let trigger = Trigger {
            name: get(&row, "name")?,
            ours: get(&row, "ours")?,
            on_insert: get(&row, "on_insert")?,
            on_delete: get(&row, "on_delete")?,
            fires: get(&row, "fires")?,
            fires_silenced: get(&row, "fires_silenced")?,
        };
        if let Some(table) = of(&mut tables, &row)? {
            table.triggers.push(trigger);
        }
    }
    policies(&mut tables, &permitted)?;
    Ok(sort_tables(Engine::Postgres, schema, tables, outsiders, tenant_column, rights))
}

fn table(row: &QueryResult) -> Result<Table, Error> {
    let (schema, name): (String, String) = (get(row, "schema")?, get(row, "name")?);
    let into = qualified(&schema, &name);
    let partitioned: bool = get(row, "partitioned")?;
    let under_policies = get(row, "under_policies")?;
    Ok(Table {
        // A partitioned table is read with its partitions, any other without tables that inherit from it: those are tables
        // of their own, and their rows would be copied twice.
        from: if partitioned { into.clone() } else { format!("ONLY {into}") },
        into,
        name,
        columns: Vec::new(),
        primary_key: Vec::new(),
        unique: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        access: Access {
            select: get(row, "can_select")?,
            insert: get(row, "can_insert")?,
            delete: get(row, "can_delete")?,
            trigger: get(row, "can_trigger")?,
            under_policies,
            filtered: under_policies,
            insert_filtered: under_policies,
        },
    })
}

/// A role that policies apply to sees everything only when a permissive policy lets everything through and no restrictive
/// one takes anything away again.
fn policies(tables: &mut BTreeMap<String, Table>, rows: &[QueryResult]) -> Result<(), Error> {
    for restrictive in [false, true] {
        for row in rows {
            if get::<bool>(row, "permissive")? == restrictive {
                continue;
            }
            let command: String = get(row, "command")?;
            let (reads_all, writes_all): (bool, bool) = (get(row, "reads_all")?, get(row, "writes_all")?);
            let Some(table) = of(tables, row)? else { continue };
            let access = &mut table.access;
            if matches!(command.as_str(), "*" | "r") && reads_all != restrictive {
                access.filtered = access.under_policies && restrictive;
            }
            if matches!(command.as_str(), "*" | "a") && writes_all != restrictive {
                access.insert_filtered = access.under_policies && restrictive;
            }
        }
    }
    Ok(())
}

fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote::identifier(schema), quote::identifier(name))
}

fn of<'a>(tables: &'a mut BTreeMap<String, Table>, row: &QueryResult) -> Result<Option<&'a mut Table>, Error> {
    Ok(tables.get_mut(&get::<String>(row, "table_name")?))
}

pub(super) async fn query(transaction: &mut Transaction, sql: &str) -> Result<Vec<QueryResult>, Error> {
    ask(transaction, sql, "reading the catalogs").await
}

/// Several queries in one round trip, each with its rows.
pub(super) async fn queries<const N: usize>(
    transaction: &mut Transaction,
    asked: [&str; N],
) -> Result<[Vec<QueryResult>; N], Error> {
    let numbered = asked.iter().enumerate();
    let sql: Vec<String> =
        numbered.map(|(part, sql)| format!("SELECT {part} AS part, q.* FROM ({sql}) AS q")).collect();
    let mut found = [const { Vec::new() }; N];
    for row in query(transaction, &sql.join("; ")).await? {
        let part: i32 = get(&row, "part")?;
        if let Some(rows) = usize::try_from(part).ok().and_then(|part| found.get_mut(part)) {
            rows.push(row);
        }
    }
    Ok(found)
}

pub(super) fn get<T: TryGetable>(row: &QueryResult, column: &str) -> Result<T, Error> {
    row.try_get("", column).map_err(Error::answer("reading the catalogs"))
}
