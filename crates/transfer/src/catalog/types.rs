//! What the types consist of that somebody defined in a PostgreSQL database.
//!
//! A name says little: two databases may both have a type `mood`, one with a label more. In COPY's binary format an enum is its
//! label, a composite type its attributes with their object ids, and a domain whatever it is based on, so a difference shows
//! late, or as another value. This module knows no column.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::QueryResult;

use super::postgres::get;
use crate::Error;

/// Every type that is not the server's own, and arrays of such types, one level deep: what it is, and the types it is made of.
/// What an extension brings is known by the extension, whose versions keep their format.
pub(super) const TYPES: &str = "
SELECT t.oid::bigint AS type,
       CASE t.typtype
         WHEN 'e' THEN 'enum ' || (SELECT coalesce(pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)::text, '[]')
                                   FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
         WHEN 'd' THEN 'domain ' || pg_catalog.format_type(t.typbasetype, t.typtypmod)
                       || CASE WHEN t.typnotnull THEN ' not null' ELSE '' END
                       || (SELECT coalesce(pg_catalog.string_agg(' ' || pg_catalog.pg_get_constraintdef(k.oid), '' ORDER BY
                           pg_catalog.pg_get_constraintdef(k.oid) COLLATE \"C\"), '')
                           FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')
         WHEN 'c' THEN 'composite ' || (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(a.attname,
                           pg_catalog.format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)::text, '[]')
                           FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped)
         WHEN 'r' THEN 'range over ' || (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r
                                         WHERE r.rngtypid = t.oid)
         WHEN 'm' THEN 'multirange'
         ELSE CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN 'array'
                   ELSE 'base ' || coalesce((SELECT x.extname FROM pg_catalog.pg_depend d
                        JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
                        WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'e'
                        LIMIT 1), t.typname::text) END
       END AS definition,
       pg_catalog.format_type(t.oid, NULL) AS name,
       (CASE t.typtype
         WHEN 'd' THEN ARRAY[t.typbasetype]
         WHEN 'c' THEN ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
                             WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
         WHEN 'r' THEN ARRAY(SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)
         WHEN 'm' THEN ARRAY(SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid)
         ELSE ARRAY[t.typelem]
       END)::bigint[]::text AS parts
FROM pg_catalog.pg_type t
WHERE t.typnamespace NOT IN ('pg_catalog'::pg_catalog.regnamespace, 'information_schema'::pg_catalog.regnamespace)
  AND t.typnamespace <> coalesce(pg_catalog.to_regnamespace('pg_toast'), 0)";

/// The types that were defined, by object id.
#[derive(Default)]
pub(super) struct Types(BTreeMap<i64, Defined>);

struct Defined {
    name: String,
    definition: String,
    parts: Vec<i64>,
}

impl Types {
    pub(super) fn new(rows: &[QueryResult]) -> Result<Self, Error> {
        let mut types = BTreeMap::new();
        for row in rows {
            let parts: String = get(row, "parts")?;
            let parts = parts.trim_matches(['{', '}']).split(',').filter_map(|part| part.parse().ok()).collect();
            let defined = Defined { name: get(row, "name")?, definition: get(row, "definition")?, parts };
            types.insert(get(row, "type")?, defined);
        }
        Ok(Self(types))
    }

    /// What a type consists of, all the way down; `None` for a type of the server's own.
    pub(super) fn definition(&self, id: i64) -> Option<String> {
        let top = self.0.get(&id)?;
        let mut parts = BTreeMap::new();
        let mut seen = BTreeSet::from([id]);
        let mut open = top.parts.clone();
        while let Some(id) = open.pop() {
            if let Some(part) = self.0.get(&id)
                && seen.insert(id)
            {
                parts.insert(part.name.as_str(), part.definition.as_str());
                open.extend(&part.parts);
            }
        }
        let below: String = parts.into_iter().map(|(name, definition)| format!("; {name}: {definition}")).collect();
        Some(format!("{}{below}", top.definition))
    }
}
