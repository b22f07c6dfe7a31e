//! Keys of tenant tables: the checks of constraints do not obey policies, so that a unique constraint over all tenants tells
//! one what another has, and a reference that does not compare tenants reaches another's row, and so does its cascade.
//!
//! A primary key, unique constraint or unique index *begins* with the tenant column: then it also serves the condition that
//! every statement carries. A foreign key pairs the tenant column with the tenant column, at whatever place: a row is looked up
//! by all of its columns at once, and what serves the look-up is the key that it refers to, which begins with the tenant. An
//! exclusion constraint compares it with `=`, at whatever place. An index that is not unique may begin with what it likes.

use tenantry_connection::Error;

use super::{Catalog, IsolationReport};

impl IsolationReport {
    pub(super) async fn measure_keys(&mut self, catalog: &mut Catalog<'_>) -> Result<(), Error> {
        // A key that is referred to can be dropped once the reference has another.
        self.find_all(catalog, REFERENCES).await?;
        self.find_all(catalog, UNIQUE).await?;
        self.find_all(catalog, EXCLUSIONS).await
    }
}

/// Foreign keys to tenant tables that do not compare tenants. One of a table without the tenant column concerns where the
/// restricted role can use it; nothing in such a row says whose it is, so that the reference goes.
const REFERENCES: &str = "
SELECT format('%I on %s', k.conname, k.conrelid::regclass),
       'it refers to a tenant table and not by its tenant: it reaches a neighbour''s row, and so does its cascade',
       CASE WHEN child.oid IS NULL THEN format('ALTER TABLE %s DROP CONSTRAINT %I', relation.target, k.conname)
       ELSE CASE WHEN EXISTS (
              SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = parent.oid AND i.indisunique AND i.indimmediate
                AND i.indpred IS NULL AND i.indexprs IS NULL
                AND (SELECT array_agg(key ORDER BY key) FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS key)
                  = (SELECT array_agg(key ORDER BY key) FROM unnest(parent.attnum || rest.theirs) AS key))
            THEN '' ELSE format('CREATE UNIQUE INDEX ON %s (%s, %s); ', parent.target, asked.qcol, rest.theirs_names) END
         || format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%s, %s) REFERENCES %s (%s, %s)',
              child.target, k.conname, k.conname, asked.qcol, rest.own_names, parent.target, asked.qcol, rest.theirs_names)
         -- Without its list of columns SET NULL would take the row's tenant, too.
         || CASE k.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
              WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', rest.own_names)
              WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', rest.own_names) ELSE '' END
         || CASE k.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT' ELSE '' END
         || CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END || CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END
       END
FROM asked
CROSS JOIN tenant_table parent
JOIN pg_catalog.pg_constraint k ON k.confrelid = parent.oid AND k.contype = 'f' AND k.conparentid = 0
JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS target FROM pg_catalog.pg_class c
              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = k.conrelid) AS relation ON true
LEFT JOIN tenant_table child ON child.oid = k.conrelid
CROSS JOIN LATERAL (
  SELECT array_agg(pair.theirs) AS theirs, string_agg(quote_ident(o.attname), ', ' ORDER BY pair.place) AS own_names,
         string_agg(quote_ident(p.attname), ', ' ORDER BY pair.place) AS theirs_names
  FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS pair (own, theirs, place)
  JOIN pg_catalog.pg_attribute o ON o.attrelid = k.conrelid AND o.attnum = pair.own
  JOIN pg_catalog.pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = pair.theirs
  WHERE pair.own IS DISTINCT FROM child.attnum AND pair.theirs <> parent.attnum) AS rest
WHERE (child.oid IS NOT NULL OR EXISTS (
         SELECT FROM reachable o WHERE has_any_column_privilege(o.oid, k.conrelid, 'SELECT, INSERT, UPDATE')
                                    OR has_table_privilege(o.oid, k.conrelid, 'DELETE')))
  AND NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS pair (own, theirs)
                  WHERE pair.own = child.attnum AND pair.theirs = parent.attnum)
ORDER BY 1";

/// Primary keys, unique constraints and unique indexes that do not begin with the tenant column. References that use one and
/// compare tenants step aside while it is made anew.
const UNIQUE: &str = "
SELECT format('%s on %s', i.indexrelid::regclass, t.name),
       CASE WHEN t.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
            THEN 'it does not begin with the tenant column, which every statement compares'
            ELSE 'it is unique across tenants: a refused row tells that a neighbour has one like it' END,
       coalesce(used.without || '; ', '')
       || CASE WHEN k.oid IS NULL
          THEN format('DROP INDEX %I.%I; %s', index_schema.nspname, index_class.relname,
                 overlay(replace(indexdef.def, ' ON ONLY ', ' ON ')
                         PLACING ' USING btree (' || asked.qcol || ', '
                         FROM strpos(replace(indexdef.def, ' ON ONLY ', ' ON '), ' USING btree (') FOR length(' USING btree (')))
          ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s%s (%s)%s%s%s', t.target, k.conname, k.conname,
                 CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END,
                 CASE WHEN i.indnullsnotdistinct THEN ' NULLS NOT DISTINCT' ELSE '' END,
                 concat_ws(', ', asked.qcol, columns.rest), ' INCLUDE (' || columns.included || ')',
                 CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END,
                 CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END) END
       || coalesce('; ' || used.again, '')
FROM asked
CROSS JOIN tenant_table t
JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisunique AND i.indkey[0] <> t.attnum
JOIN pg_catalog.pg_class index_class ON index_class.oid = i.indexrelid
JOIN pg_catalog.pg_namespace index_schema ON index_schema.oid = index_class.relnamespace
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
CROSS JOIN LATERAL (SELECT pg_get_indexdef(i.indexrelid) AS def) AS indexdef
CROSS JOIN LATERAL (
  SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY key.place) FILTER (WHERE key.place <= i.indnkeyatts AND a.attnum <> t.attnum) AS rest,
         string_agg(quote_ident(a.attname), ', ' ORDER BY key.place) FILTER (WHERE key.place > i.indnkeyatts) AS included
  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS key (attnum, place)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.attnum) AS columns
CROSS JOIN LATERAL (
  SELECT string_agg(format('ALTER TABLE %I.%I DROP CONSTRAINT %I', n.nspname, c.relname, f.conname), '; ' ORDER BY f.oid) AS without,
         string_agg(format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, c.relname, f.conname, pg_get_constraintdef(f.oid)), '; ' ORDER BY f.oid) AS again
  FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class c ON c.oid = f.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE f.contype = 'f' AND f.conindid = i.indexrelid AND f.conparentid = 0 AND t.attnum = ANY (f.confkey)) AS used
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)
ORDER BY 1";

/// Exclusion constraints that do not compare tenants: two neighbours' rows would exclude each other.
const EXCLUSIONS: &str = "
SELECT format('%I on %s', k.conname, t.name),
       'it excludes across tenants: a refused row tells that a neighbour has one like it',
       CASE WHEN def.text LIKE 'EXCLUDE USING gist %' THEN 'CREATE EXTENSION IF NOT EXISTS btree_gist; ' ELSE '' END
       || format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', t.target, k.conname, k.conname,
            overlay(def.text PLACING '(' || asked.qcol || ' WITH =, ' FROM strpos(def.text, '(') FOR 1))
FROM asked
CROSS JOIN tenant_table t
JOIN pg_catalog.pg_constraint k ON k.conrelid = t.oid AND k.contype = 'x'
CROSS JOIN LATERAL (SELECT pg_get_constraintdef(k.oid) AS text) AS def
WHERE NOT EXISTS (SELECT FROM unnest(k.conkey, k.conexclop) AS pair (key, operator)
                  JOIN pg_catalog.pg_operator o ON o.oid = pair.operator
                  WHERE pair.key = t.attnum AND o.oprname = '=')
ORDER BY 1";
