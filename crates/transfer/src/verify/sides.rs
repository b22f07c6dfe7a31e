//! The tables of one side: their digests, their rows, and whether they are still the tables that the catalogs showed.

use sea_orm::QueryResult;
use tenantry_connection::{Engine, Transaction};

use super::digest::{Digest, SEEDS};
use crate::{
    Error, Progress, Side,
    kind::Kind,
    plan::{Pair, Structure},
    quote,
    rows::{Reading, ask, counts},
};

/// Tables that are asked about in one statement.
const AT_ONCE: usize = 100;

/// Rows between two reports of progress.
const STRIDE: u64 = 1000;

/// The digest of each table. A server digests its own; what has no text that both engines would write is read.
pub(super) async fn digests(
    structure: &Structure,
    side: Side,
    pairs: &[&Pair],
    transaction: &mut Transaction,
    progress: Option<&dyn Progress>,
) -> Result<Vec<Digest>, Error> {
    let advance = |pair: &Pair, rows: u64| {
        if let Some(progress) = progress {
            progress.advance(&pair.name, rows);
        }
    };
    let mut digests = vec![Digest::default(); pairs.len()];
    let by_server = |pair: &Pair| transaction.engine() == Engine::Postgres && is_written_alike(structure, pair);
    let (asked, read): (Vec<usize>, Vec<usize>) =
        (0..pairs.len()).partition(|place| pairs.get(*place).is_some_and(|pair| by_server(pair)));
    for places in asked.chunks(AT_ONCE) {
        let queries = places.iter().filter_map(|place| {
            let reading = structure.reading(side, pairs.get(*place)?, false);
            Some(query(*place, &reading, !structure.is_across_engines()))
        });
        let sql = queries.collect::<Vec<_>>().join(" UNION ALL ");
        let doing = || match places {
            [place] => format!("digesting {} at the {side}", pairs.get(*place).map_or("", |pair| &pair.name)),
            _ => format!("digesting tables at the {side}"),
        };
        for row in ask(transaction, &sql, &doing()).await? {
            let place: i32 = row.try_get("", "place").map_err(Error::answer(doing()))?;
            let digest = digest(&row).map_err(|_| Error::answer(doing())(std::io::Error::other("no digest")))?;
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            if let (Some(kept), Some(pair)) = (digests.get_mut(place), pairs.get(place)) {
                *kept = digest;
                advance(pair, digest.rows);
            }
        }
    }
    for place in read {
        let (Some(kept), Some(pair)) = (digests.get_mut(place), pairs.get(place)) else { continue };
        let reading = structure.reading(side, pair, false);
        let mut rows = reading.open(transaction).await?;
        let mut buffer = Vec::new();
        while let Some(row) = rows.next().await? {
            kept.add(&reading, &row, &mut buffer);
            if kept.rows % STRIDE == 0 {
                advance(pair, STRIDE);
            }
        }
        advance(pair, kept.rows % STRIDE);
    }
    Ok(digests)
}

/// Whether the text that PostgreSQL writes for a row says the same on both sides. Between two of its servers it does, in the
/// session that is set for it; SQLite's JSON is equal by value only.
fn is_written_alike(structure: &Structure, pair: &Pair) -> bool {
    !structure.is_across_engines()
        || !pair.columns.iter().any(|column| column.source == Kind::Json || column.target == Kind::Json)
}

/// The server's own digest. Of two servers each hashes a row's values; where the other side is hashed here, it is the row's text, of
/// which [`Digest`] computes the same.
fn query(place: usize, reading: &Reading, alone: bool) -> String {
    let columns = reading.columns.iter().map(|(name, kind)| {
        let column = quote::identifier(name);
        if alone { whole(&column, *kind) } else { text(column, *kind) }
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let (from, filter) = (&reading.from, &reading.filter);
    // The hash of a record is a weighted sum of those of its values, and a sum of such sums would not see which values stand in one
    // row. So two of them are hashed once more, as a text.
    let texts = match alone {
        true => format!(
            "SELECT pg_catalog.hash_record_extended(r, {})::text || ',' || pg_catalog.hash_record_extended(r, {})::text AS t \
             FROM (SELECT ROW({columns}) AS r FROM {from} WHERE {filter} OFFSET 0) AS rows",
            SEEDS[0], SEEDS[1]
        ),
        false => format!("SELECT ROW({columns})::text AS t FROM {from} WHERE {filter}"),
    };
    let sums = SEEDS.iter().enumerate().map(|(number, seed)| {
        format!(
            ", coalesce(pg_catalog.sum(pg_catalog.hashtextextended(t COLLATE pg_catalog.\"C\", {seed})), 0)::text AS sum{number}"
        )
    });
    // The text of a row is made once for both hashes.
    format!(
        "SELECT {place} AS place, pg_catalog.count(*) AS rows{} FROM ({texts} OFFSET 0) AS r",
        sums.collect::<String>()
    )
}

/// A column of which the hash has every bit. The hash of a type is made for its equality: numbers and times of 64 bits are folded into
/// 32 first, and 1.0 is 1.00; so their binary forms are hashed. What is not known to be told apart goes as its text.
fn whole(column: &str, kind: Kind) -> String {
    let binary = match kind {
        Kind::Uuid | Kind::SmallInt | Kind::Integer | Kind::Boolean | Kind::Date => {
            return column.to_owned();
        }
        Kind::Text | Kind::Varchar { .. } => return format!("{column} COLLATE pg_catalog.\"C\""),
        // As its type writes it: a cast may leave something out.
        Kind::Json | Kind::Other => return format!("ROW({column})::text COLLATE pg_catalog.\"C\""),
        // However long it is, it must fit into a row with all the others.
        Kind::Bytes => "sha256",
        Kind::BigInt => "int8send",
        Kind::Decimal { .. } => "numeric_send",
        Kind::Time => "time_send",
        Kind::Timestamp => "timestamptz_send",
    };
    format!("pg_catalog.{binary}({column})")
}

fn text(column: String, kind: Kind) -> String {
    if kind == Kind::Bytes { format!("pg_catalog.sha256({column})") } else { column }
}

fn digest(row: &QueryResult) -> Result<Digest, sea_orm::DbErr> {
    let rows: i64 = row.try_get("", "rows")?;
    let sum = |name: &str| -> Result<u64, sea_orm::DbErr> {
        let text: String = row.try_get("", name)?;
        let sum: i128 = text.parse().map_err(|_| sea_orm::DbErr::Type(format!("{name} is no number")))?;
        // The server adds up as far as it takes; here it wraps around.
        Ok(sum as u64)
    };
    Ok(Digest { rows: rows.unsigned_abs(), sums: [sum("sum0")?, sum("sum1")?] })
}

/// How many rows of each table the tenant has in the source: as the plan counted them, or counted now.
pub(super) async fn rows(structure: &Structure, pairs: &[&Pair], from: &mut Transaction) -> Result<Vec<u64>, Error> {
    if let Some(known) = pairs.iter().map(|pair| pair.rows).collect() {
        return Ok(known);
    }
    let filter = structure.source.filter();
    let tables: Vec<_> = pairs.iter().map(|pair| Some((pair.source.from.as_str(), filter.as_str()))).collect();
    counts(from, &tables).await
}

/// A column that was added since the catalogs were read would be compared by nobody.
pub(super) async fn check_columns(
    structure: &Structure,
    side: Side,
    transaction: &mut Transaction,
) -> Result<(), Error> {
    const DOING: &str = "looking whether the tables are the same";
    let tables = structure.pairs.iter().map(|pair| if side == Side::Source { &pair.source } else { &pair.target });
    let expected: usize = tables.clone().map(|table| table.columns.len()).sum();
    let engine = transaction.engine();
    let literals = tables.map(|table| match engine {
        Engine::Postgres => quote::postgres_literal(&table.into),
        Engine::Sqlite => quote::sqlite_literal(&table.name),
    });
    let literals: Vec<String> = literals.collect();
    if literals.is_empty() {
        return Ok(());
    }
    let sql = match engine {
        Engine::Postgres => format!(
            "SELECT pg_catalog.count(*) AS columns FROM pg_catalog.pg_attribute AS a WHERE a.attnum > 0 AND NOT a.attisdropped \
             AND a.attrelid = ANY (ARRAY[{}]::pg_catalog.regclass[])",
            literals.join(", ")
        ),
        Engine::Sqlite => format!(
            "SELECT count(*) AS columns FROM json_each(json_array({})) AS t, pragma_table_xinfo(t.value) AS c WHERE c.hidden <> 1",
            literals.join(", ")
        ),
    };
    let row = ask(transaction, &sql, DOING).await?.into_iter().next();
    let found = row.map(|row| row.try_get::<i64>("", "columns")).transpose().map_err(Error::answer(DOING))?;
    if usize::try_from(found.unwrap_or(0)) == Ok(expected) {
        return Ok(());
    }
    Err(Error::Request {
        problem: format!("a table at the {side} has other columns since the plan was made; plan again"),
    })
}
