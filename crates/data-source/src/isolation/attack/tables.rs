//! What the attack has to know of the tables: the columns that a row needs, the keys, the references, the rights. Read from the
//! catalogs; every name is as the server quotes it.

use std::collections::HashMap;

use tenantry_connection::Error;

use crate::isolation::{Catalog, decode, grantees, text};

/// A right that an attack needs before a policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
}

/// A tenant table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// As findings name it.
    pub(super) name: String,
    /// As statements name it.
    pub(super) target: String,
    /// The tenant column.
    pub(super) tenant: String,
    /// What the role may do with all of it.
    pub(super) rights: Vec<Right>,
    /// The columns of a key that could collide.
    pub(super) key: Option<String>,
    /// A column to update.
    pub(super) settable: String,
    /// The name under which its writes are logged, as a literal.
    pub(super) logged_as: Option<String>,
    /// What takes away every right on it.
    pub(super) revoke: String,
    pub(super) columns: Vec<Column>,
    pub(super) references: Vec<Reference>,
}

/// A column that a row is given.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type as a cast writes it.
    pub(super) type_name: String,
    /// The catalog's category of the type, or of what a domain is made of.
    pub(super) category: String,
    /// The name of that type.
    pub(super) base: String,
    /// The first value of an enumeration.
    pub(super) label: Option<String>,
    /// The first text that a check constraint on it names.
    pub(super) named: Option<String>,
    /// It is part of a key.
    pub(super) in_key: bool,
    /// It counts by itself: a value is given, because a sequence would not be rolled back.
    pub(super) identity: bool,
}

/// A foreign key to a tenant table.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) name: String,
    /// The place of the table that it refers to.
    pub(super) parent: usize,
    /// Its columns with those they refer to, without the tenant column.
    pub(super) pairs: Vec<(String, String)>,
}

/// An attack on what is around the tables.
#[derive(Debug, Clone)]
pub(super) struct Outside {
    pub(super) object: String,
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) remedy: String,
}

impl Table {
    /// Whether a value has to be looked up in another table.
    pub(super) fn refers_by(&self, column: &str) -> bool {
        self.references.iter().any(|reference| reference.pairs.iter().any(|(own, _)| own == column))
    }
}

pub(super) async fn read(catalog: &mut Catalog<'_>) -> Result<Vec<Table>, Error> {
    let revoke = grantees("t.relacl", "true");
    let mut tables = Vec::new();
    for row in catalog.query(&TABLES.replace("{revoke}", &revoke)).await? {
        let rights = [Right::Select, Right::Insert, Right::Update, Right::Delete, Right::Truncate];
        let mut had = Vec::new();
        for (at, right) in rights.into_iter().enumerate() {
            if decode(row.try_get_by_index::<bool>(at + 7))? {
                had.push(right);
            }
        }
        tables.push(Table {
            name: text(&row, 0)?,
            target: text(&row, 1)?,
            tenant: text(&row, 2)?,
            key: decode(row.try_get_by_index(3))?,
            settable: text(&row, 4)?,
            logged_as: decode(row.try_get_by_index(5))?,
            revoke: text(&row, 6)?,
            rights: had,
            columns: Vec::new(),
            references: Vec::new(),
        });
    }
    let places: HashMap<String, usize> =
        tables.iter().enumerate().map(|(place, table)| (table.name.clone(), place)).collect();
    for row in catalog.query(COLUMNS).await? {
        let Some(&place) = places.get(&text(&row, 0)?) else { continue };
        tables[place].columns.push(Column {
            name: text(&row, 1)?,
            type_name: text(&row, 2)?,
            category: text(&row, 3)?,
            base: text(&row, 4)?,
            label: decode(row.try_get_by_index(5))?,
            named: decode(row.try_get_by_index(6))?,
            in_key: decode(row.try_get_by_index(7))?,
            identity: decode(row.try_get_by_index(8))?,
        });
    }
    for row in catalog.query(REFERENCES).await? {
        let (Some(&place), Some(&parent)) = (places.get(&text(&row, 0)?), places.get(&text(&row, 2)?)) else {
            continue;
        };
        let own: Vec<String> = decode(row.try_get_by_index(3))?;
        let theirs: Vec<String> = decode(row.try_get_by_index(4))?;
        let pairs = own.into_iter().zip(theirs).collect();
        tables[place].references.push(Reference { name: text(&row, 1)?, parent, pairs });
    }
    Ok(tables)
}

pub(super) async fn outside(catalog: &mut Catalog<'_>) -> Result<Vec<Outside>, Error> {
    let mut attacks = Vec::new();
    for row in catalog.query(OUTSIDE).await? {
        let [object, name, sql, remedy] = [text(&row, 0)?, text(&row, 1)?, text(&row, 2)?, text(&row, 3)?];
        attacks.push(Outside { object, name, sql, remedy });
    }
    Ok(attacks)
}

/// The key that a row could collide on is the primary one where there is one; the column to update is in no key where there is
/// such a column.
const TABLES: &str = "
SELECT t.name, t.target, asked.qcol,
       (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY key.place)
        FROM (SELECT i.indkey, i.indnkeyatts FROM pg_catalog.pg_index i
              WHERE i.indrelid = t.oid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
              ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) AS i
        CROSS JOIN LATERAL unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS key (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.attnum),
       (SELECT quote_ident(a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity = ''
        ORDER BY a.attnum = t.attnum, EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisunique AND a.attnum = ANY (i.indkey)), a.attnum
        LIMIT 1),
       (SELECT quote_literal(t.relname) FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_class l ON l.oid = to_regclass('public.write_log')
        WHERE g.tgrelid = t.oid AND g.tgname = 'tenantry_write_log' AND has_table_privilege(asked.role, l.oid, 'SELECT')),
       format('REVOKE ALL ON %s FROM %s', t.target, coalesce({revoke}, asked.qrole)),
       has_table_privilege(asked.role, t.oid, 'SELECT'), has_table_privilege(asked.role, t.oid, 'INSERT'),
       has_table_privilege(asked.role, t.oid, 'UPDATE'), has_table_privilege(asked.role, t.oid, 'DELETE'),
       has_table_privilege(asked.role, t.oid, 'TRUNCATE')
FROM asked CROSS JOIN tenant_table t ORDER BY 1";

/// The columns that a row is given: those that must have a value and have no default, those of keys, which others refer to,
/// and those whose default is a sequence, which no rollback sets back.
const COLUMNS: &str = "
SELECT t.name, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), base.typcategory::text, base.typname::text,
       (SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = base.oid ORDER BY e.enumsortorder LIMIT 1),
       (SELECT replace((regexp_match(pg_get_constraintdef(k.oid), '''((?:[^'']|'''')*)'''))[1], '''''', '''')
        FROM pg_catalog.pg_constraint k
        WHERE k.contype = 'c' AND k.conrelid = t.oid AND a.attnum = ANY (k.conkey) ORDER BY cardinality(k.conkey), k.oid LIMIT 1),
       needed.in_key, a.attidentity <> ''
FROM tenant_table t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
JOIN pg_catalog.pg_type base ON base.oid = CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
CROSS JOIN LATERAL (
  SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisunique
                 AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS in_key,
         (a.attnotnull OR y.typnotnull) AND d.oid IS NULL AS value,
         a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' AS counts) AS needed
WHERE needed.in_key OR needed.value OR needed.counts
ORDER BY t.name, a.attnum";

const REFERENCES: &str = "
SELECT t.name, quote_ident(k.conname), parent.name,
       array_agg(quote_ident(o.attname) ORDER BY pair.place), array_agg(quote_ident(p.attname) ORDER BY pair.place)
FROM tenant_table t
JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' AND k.conparentid = 0
JOIN tenant_table parent ON parent.oid = k.confrelid
CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS pair (own, theirs, place)
JOIN pg_catalog.pg_attribute o ON o.attrelid = t.oid AND o.attnum = pair.own
JOIN pg_catalog.pg_attribute p ON p.attrelid = parent.oid AND p.attnum = pair.theirs
WHERE NOT (pair.own = t.attnum AND pair.theirs = parent.attnum)
GROUP BY t.name, k.conname, parent.name
ORDER BY 1, 2";

/// Becoming somebody whom the policies do not hold, silencing triggers, and putting something in a table's place.
const OUTSIDE: &str = "
SELECT x.object, x.name, x.sql, x.remedy FROM asked CROSS JOIN LATERAL (
  SELECT 1 AS place, format('membership of role %s in %s', asked.role_name, g.rolname) AS object, 'become ' || g.rolname AS name,
         format('SET LOCAL ROLE %I', g.rolname) AS sql, format('REVOKE %I FROM %s', g.rolname, asked.qrole) AS remedy
  FROM pg_catalog.pg_roles g WHERE (g.rolsuper OR g.oid = asked.service) AND g.oid <> asked.role
  UNION ALL
  SELECT 2, 'role ' || asked.role_name, 'begin a session as ' || g.rolname, format('SET LOCAL SESSION AUTHORIZATION %I', g.rolname),
         format('ALTER ROLE %s NOSUPERUSER', asked.qrole)
  FROM pg_catalog.pg_roles g WHERE g.oid = asked.service AND g.oid <> asked.role
  UNION ALL
  SELECT 3, 'parameter session_replication_role', 'silence triggers', 'SET LOCAL session_replication_role = replica',
         format('REVOKE SET ON PARAMETER session_replication_role FROM %s, PUBLIC', asked.qrole)
  UNION ALL
  SELECT 4, 'database ' || current_database(), 'shadow a table with a temporary one', format('CREATE TEMPORARY TABLE %I ()', min(t.relname::text)),
         format('REVOKE TEMPORARY ON DATABASE %s FROM %s, PUBLIC', asked.qdatabase, asked.qrole)
  FROM tenant_table t HAVING count(*) > 0
  UNION ALL
  SELECT DISTINCT 5, 'schema ' || t.nspname, 'create a table', format('CREATE TABLE %I.tenantry_attack ()', t.nspname),
         format('REVOKE CREATE ON SCHEMA %I FROM %s, PUBLIC', t.nspname, asked.qrole)
  FROM tenant_table t) AS x
ORDER BY x.place, x.object";
