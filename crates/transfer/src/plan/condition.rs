//! A condition that one database states, as a condition that may be asked of the other.
//!
//! The target may be somebody else's database, and what its catalogs say is text that they wrote: run as it stands, at the
//! source, with the service login, it could do whatever SQL can. So nothing of it is run. It is read token by token, and
//! written anew from names of the source's own columns, literals, and operators, functions and types that only compute.
//! What contains anything else has no translation, and is reported as not checked.

use std::collections::BTreeSet;

use crate::quote;

/// A longer expression is a program, not a condition.
const LONGEST: usize = 20_000;

const KEYWORDS: &[&str] = &[
    "AND", "OR", "NOT", "IS", "NULL", "TRUE", "FALSE", "UNKNOWN", "ANY", "ALL", "ARRAY", "DISTINCT", "FROM", "CASE",
    "WHEN", "THEN", "ELSE", "END", "COALESCE", "NULLIF", "GREATEST", "LEAST", "true", "false", "null",
];

const OPERATORS: &[&str] = &[
    "=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "||", "~", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*",
    "@>", "<@", "&&",
];

const FUNCTIONS: &[&str] = &[
    "abs",
    "array_length",
    "btrim",
    "cardinality",
    "ceil",
    "char_length",
    "character_length",
    "floor",
    "isempty",
    "isfinite",
    "jsonb_typeof",
    "left",
    "length",
    "lower",
    "lower_inc",
    "ltrim",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "right",
    "round",
    "rtrim",
    "upper",
    "upper_inc",
];

const TYPES: &[&[&str]] = &[
    &["timestamp", "with", "time", "zone"],
    &["timestamp", "without", "time", "zone"],
    &["time", "with", "time", "zone"],
    &["time", "without", "time", "zone"],
    &["double", "precision"],
    &["character", "varying"],
    &["bigint"],
    &["boolean"],
    &["bpchar"],
    &["bytea"],
    &["character"],
    &["date"],
    &["inet"],
    &["integer"],
    &["interval"],
    &["jsonb"],
    &["numeric"],
    &["real"],
    &["smallint"],
    &["text"],
    &["uuid"],
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// As it was written.
    Word(String),
    /// What stood between double quotes.
    Quoted(String),
    /// What a literal means.
    Text(String),
    Number(String),
    Symbol(String),
}

/// Writes a condition anew. `column` gives what stands for a column of this name; `types` are the source's own names of
/// types that are not the server's.
pub(super) fn translate(text: &str, column: &dyn Fn(&str) -> Option<String>, types: &BTreeSet<&str>) -> Option<String> {
    let tokens = tokens(text)?;
    let mut written: Vec<String> = Vec::with_capacity(tokens.len());
    // What closed a parenthesis that it did not open would end the condition, and say something about other rows.
    let mut open = Vec::new();
    for token in &tokens {
        match token {
            Token::Symbol(symbol) if symbol == "(" => open.push(")"),
            Token::Symbol(symbol) if symbol == "[" => open.push("]"),
            Token::Symbol(symbol) if symbol == ")" || symbol == "]" => {
                (open.pop()? == symbol).then_some(())?;
            }
            _ => {}
        }
    }
    if !open.is_empty() {
        return None;
    }
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        match token {
            Token::Symbol(symbol) if symbol == "::" => {
                let (name, after) = type_name(rest, types)?;
                rest = after;
                // No blank before it: `- 1::integer` and `-1::integer` differ in nothing, but casts bind to what is before.
                written.push(format!("::{name}"));
            }
            Token::Symbol(symbol) if matches!(symbol.as_str(), "(" | ")" | "[" | "]" | ",") => {
                written.push(symbol.clone())
            }
            Token::Symbol(symbol) => {
                written.push(OPERATORS.iter().find(|operator| *operator == symbol)?.to_string());
            }
            Token::Text(text) => written.push(quote::postgres_literal(text)),
            Token::Number(number) => written.push(number.clone()),
            Token::Word(word)
                if rest.first() == Some(&Token::Symbol("(".to_owned())) && FUNCTIONS.contains(&word.as_str()) =>
            {
                // With its schema, so that no function of the application stands in front of it.
                written.push(format!("pg_catalog.{word}"));
            }
            Token::Word(word) if KEYWORDS.contains(&word.as_str()) => written.push(word.clone()),
            Token::Word(name) | Token::Quoted(name) => {
                // A name before a parenthesis is a function, before a dot a schema or a table: neither is known here.
                if rest.first() == Some(&Token::Symbol("(".to_owned())) {
                    return None;
                }
                written.push(column(name)?);
            }
        }
    }
    Some(written.join(" "))
}

fn type_name<'t>(tokens: &'t [Token], types: &BTreeSet<&str>) -> Option<(String, &'t [Token])> {
    let builtin = TYPES.iter().find(|words| {
        tokens.len() >= words.len()
            && words.iter().zip(tokens).all(|(word, token)| *token == Token::Word((*word).to_owned()))
    });
    let (mut name, mut rest) = match builtin {
        Some(words) => (words.join(" "), tokens.get(words.len()..)?),
        None => {
            let (first, rest) = tokens.split_first()?;
            let name = match first {
                Token::Word(word) => word.clone(),
                Token::Quoted(name) => quote::identifier(name),
                _ => return None,
            };
            types.get(name.as_str())?;
            (name, rest)
        }
    };
    let symbol = |token: Option<&Token>, wanted: &str| matches!(token, Some(Token::Symbol(symbol)) if symbol == wanted);
    if symbol(rest.first(), "(") && matches!(rest.get(1), Some(Token::Number(_))) {
        let end = rest.iter().position(|token| symbol(Some(token), ")"))?;
        let arguments = rest.get(1..end)?.iter().map(|token| match token {
            Token::Number(number) => Some(number.as_str()),
            Token::Symbol(symbol) if symbol == "," => Some(","),
            _ => None,
        });
        name.push_str(&format!("({})", arguments.collect::<Option<Vec<_>>>()?.concat()));
        rest = rest.get(end + 1..)?;
    }
    while symbol(rest.first(), "[") && symbol(rest.get(1), "]") {
        name.push_str("[]");
        rest = rest.get(2..)?;
    }
    Some((name, rest))
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    if text.len() > LONGEST {
        return None;
    }
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    let take = |at: usize, more: &dyn Fn(char) -> bool| -> String {
        characters.iter().skip(at).take_while(|character| more(**character)).collect()
    };
    while let Some(&character) = characters.get(at) {
        match character {
            character if character.is_whitespace() => at += 1,
            '(' | ')' | '[' | ']' | ',' => {
                tokens.push(Token::Symbol(character.to_string()));
                at += 1;
            }
            ':' if characters.get(at + 1) == Some(&':') => {
                tokens.push(Token::Symbol("::".to_owned()));
                at += 2;
            }
            '\'' | '"' => {
                let (inner, end) = quoted(&characters, at + 1, character, false)?;
                tokens.push(if character == '"' { Token::Quoted(inner) } else { Token::Text(inner) });
                at = end;
            }
            'E' if characters.get(at + 1) == Some(&'\'') => {
                let (inner, end) = quoted(&characters, at + 2, '\'', true)?;
                tokens.push(Token::Text(inner));
                at = end;
            }
            character if character.is_ascii_digit() => {
                let mut number = take(at, &|c| c.is_ascii_digit() || c == '.');
                let exponent = take(at + number.len(), &|c| c.is_ascii_alphanumeric() || c == '+' || c == '-');
                if exponent.starts_with('e') {
                    number.push_str(&exponent);
                }
                number.parse::<f64>().ok()?;
                at += number.len();
                tokens.push(Token::Number(number));
            }
            character if character.is_alphabetic() || character == '_' => {
                let word = take(at, &|c| c.is_alphanumeric() || c == '_' || c == '$');
                at += word.chars().count();
                tokens.push(Token::Word(word));
            }
            _ => {
                let symbol = take(at, &|c| "+-*/<>=~!@#%^&|?".contains(c));
                if symbol.is_empty() || symbol.contains("--") || symbol.contains("/*") {
                    return None;
                }
                at += symbol.len();
                tokens.push(Token::Symbol(symbol));
            }
        }
    }
    Some(tokens)
}

/// What stands between quotes, and where the text goes on. Doubled quotes stand for one; of escapes, only the doubled
/// backslash is known, which is all that the server writes.
fn quoted(characters: &[char], mut at: usize, quote: char, escapes: bool) -> Option<(String, usize)> {
    let mut inner = String::new();
    loop {
        let character = *characters.get(at)?;
        let next = characters.get(at + 1);
        at += 1;
        if character == quote {
            if next != Some(&quote) {
                return Some((inner, at));
            }
            at += 1;
        } else if character == '\\' && escapes {
            if next != Some(&'\\') {
                return None;
            }
            at += 1;
        }
        inner.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str) -> Option<String> {
        let column = |name: &str| match name {
            "tenant_id" => Some("E'7'::bigint".to_owned()),
            "status" | "amount" | "Odd \"one" => Some(quote::identifier(name)),
            _ => None,
        };
        translate(text, &column, &BTreeSet::from(["mood", "\"Mood\""]))
    }

    #[test]
    fn what_only_computes_is_written_anew() {
        for (text, expected) in [
            (
                "((status)::text = ANY (ARRAY['new'::text, 'o''ld'::text]))",
                r#"( ( "status" ) ::text = ANY ( ARRAY [ E'new' ::text , E'o\'ld' ::text ] ) )"#,
            ),
            ("(length((status)::text) <= 20)", r#"( pg_catalog.length ( ( "status" ) ::text ) <= 20 )"#),
            ("(amount >= (0)::numeric(10,2))", r#"( "amount" >= ( 0 ) ::numeric(10,2) )"#),
            (
                "((\"Odd \"\"one\" IS NULL) OR (tenant_id <> 1))",
                r#"( ( "Odd ""one" IS NULL ) OR ( E'7'::bigint <> 1 ) )"#,
            ),
            ("(status = 'ok'::mood)", r#"( "status" = E'ok' ::mood )"#),
            (r"(status ~ E'^\\d+$'::text)", r#"( "status" ~ E'^\\d+$' ::text )"#),
            (
                "(status = ANY ('{a,b}'::character varying(5)[]))",
                r#"( "status" = ANY ( E'{a,b}' ::character varying(5)[] ) )"#,
            ),
        ] {
            assert_eq!(translated(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_could_do_more_has_no_translation() {
        for text in [
            "pg_sleep(10) IS NULL",
            "status = pg_read_file('/etc/passwd')",
            "public.length(status) > 1",
            "\"length\"(status) > 1",
            "true) UNION (SELECT 1",
            "true) OR (true",
            "(true",
            "status = ANY (ARRAY[true)]",
            "(SELECT count(*) FROM accounts) > 0",
            "EXISTS (SELECT 1)",
            "status = 'a' -- '",
            "status = 'a' /* '",
            "status = 'a'; DROP TABLE accounts",
            "status = $1",
            "password = 'x'",
            "status = 'x'::regclass",
            "status = 'x'::\"text\"",
            r"status = E'\x27'",
            "status OPERATOR(public.=) 'a'",
            "status = 'unfinished",
            "(amount).secret = 1",
            "CURRENT_USER = 'postgres'",
            "now() > amount",
        ] {
            assert_eq!(translated(text), None, "{text}");
        }
    }
}
