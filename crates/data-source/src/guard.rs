//! What keeps a statement within its tenant beside the predicate itself: no table that the builder did not scope, no query
//! inside a condition, and no SQL text where no row-level security stands behind.
//!
//! Two looks, because neither sees everything. sea-query's audit lists the tables of a whole statement, but it looks neither
//! into the conditions of an UPDATE or a DELETE, nor into ORDER BY, GROUP BY, HAVING and a join's ON, nor into SQL text. So
//! every condition that came from outside is walked as an expression tree before it gets into a statement, and nothing else
//! from outside gets in: order takes columns, joins take relations. What the walk does not know it refuses, so that a new kind
//! of expression in sea-query cannot open it.

use std::cell::{Cell, RefCell};

use sea_orm::{
    Condition, StatementBuilder,
    sea_query::{
        BinOper, CaseStatement, ColumnName, ColumnRef, DynIden, EscapeBuilder, ExplainStatement, Expr, Func,
        FunctionCall, Keyword, Oper, OperLeftAssocDecider, PrecedenceDecider, QueryBuilder, Quote, QuotedBuilder,
        SelectInto, SqlWriter, SubQueryStatement, TableName, TableRefBuilder, TypeRef, UnOper, Value,
        audit::{AuditTrait, QueryAccessAudit},
        extension::postgres::PgFunc,
    },
};
use tenantry_connection::Engine;

use crate::{Error, Isolation};

/// What a statement may refer to, and what stands behind it.
pub(crate) struct Guard<'a> {
    /// The statement's own table, for messages.
    pub(crate) table: &'a str,
    /// The tables that the builder scoped.
    pub(crate) scoped: &'a [TableName],
    pub(crate) engine: Engine,
    pub(crate) isolation: Isolation,
}

impl Guard<'_> {
    /// Refuses a built statement that uses a table the builder did not scope.
    pub(crate) fn check_statement(&self, statement: &impl StatementBuilder) -> Result<(), Error> {
        let audit = statement.audit().map_err(|_| Error::NotAuditable { table: self.table.to_owned() })?;
        match self.foreign(&audit) {
            Some(foreign) => Err(Error::ForeignTable { table: self.table.to_owned(), foreign }),
            None => Ok(()),
        }
    }

    /// Refuses a condition from outside that could lead out of the tenant, or that the engine does not have. Says whether there
    /// is SQL text in it, which can do in the session whatever SQL can do.
    pub(crate) fn check_condition(&self, condition: &Condition) -> Result<bool, Error> {
        let walk = Walk { guard: self, refusal: RefCell::new(None), custom: Cell::new(false) };
        walk.expression(&Expr::from(condition.clone()));
        walk.refusal.into_inner().map_or(Ok(walk.custom.get()), Err)
    }

    fn foreign(&self, audit: &QueryAccessAudit) -> Option<String> {
        let foreign = audit.requests.iter().find(|request| !self.scoped.contains(&request.schema_table))?;
        let TableName(schema, table) = &foreign.schema_table;
        Some(schema.as_ref().map_or_else(|| table.to_string(), |schema| format!("{}.{table}", schema.1)))
    }
}

/// A walk over one expression tree. The first refusal is kept.
struct Walk<'a> {
    guard: &'a Guard<'a>,
    refusal: RefCell<Option<Error>>,
    /// There is SQL text in it.
    custom: Cell<bool>,
}

impl Walk<'_> {
    fn expression(&self, expression: &Expr) {
        match expression {
            Expr::Column(ColumnRef::Column(ColumnName(table, column))) => {
                self.identifier(column);
                if let Some(TableName(schema, table)) = table {
                    self.identifier(table);
                    if let Some(schema) = schema {
                        self.identifier(&schema.1);
                    }
                }
            }
            Expr::Column(ColumnRef::Asterisk(_)) => {}
            Expr::Tuple(members) => members.iter().for_each(|member| self.expression(member)),
            Expr::Unary(UnOper::Not, inner) => self.expression(inner),
            Expr::FunctionCall(call) => self.function(call),
            Expr::Binary(value, BinOper::As, to) => {
                self.expression(value);
                match to.as_ref() {
                    // The only form that SeaORM's `cast_as` has; a plain type name cannot lead anywhere.
                    Expr::Custom(type_name) if is_plain_type(type_name) => {}
                    other => self.expression(other),
                }
            }
            Expr::Binary(left, operator, right) => {
                self.operator(*operator);
                self.expression(left);
                self.expression(right);
            }
            Expr::SubQuery(_, query) => self.query(query),
            Expr::Value(value) | Expr::Constant(value) => self.value(value),
            Expr::Values(values) => values.iter().for_each(|value| self.value(value)),
            Expr::Custom(_) => self.custom("Expr::cust"),
            Expr::CustomWithExpr(_, members) => {
                self.custom("Expr::cust_with_expr");
                members.iter().for_each(|member| self.expression(member));
            }
            Expr::Keyword(Keyword::Custom(_)) => self.custom("Keyword::Custom"),
            Expr::Keyword(
                Keyword::Null
                | Keyword::CurrentDate
                | Keyword::CurrentTime
                | Keyword::CurrentTimestamp
                | Keyword::Default,
            ) => {}
            Expr::AsEnum(type_name, inner) => {
                self.identifier(type_name);
                self.expression(inner);
            }
            Expr::Case(case) => self.case(case),
            Expr::TypeName(TypeRef(schema, type_name)) => {
                self.identifier(type_name);
                if let Some(schema) = schema {
                    self.identifier(&schema.1);
                }
            }
            _ => self.unsupported("an expression that this version does not know"),
        }
    }

    fn function(&self, call: &FunctionCall) {
        match call.get_func() {
            Func::Max
            | Func::Min
            | Func::Sum
            | Func::Avg
            | Func::Abs
            | Func::Count
            | Func::IfNull
            | Func::Greatest
            | Func::Least
            | Func::CharLength
            | Func::Cast
            | Func::Coalesce
            | Func::Lower
            | Func::Upper
            | Func::BitAnd
            | Func::BitOr
            | Func::Random
            | Func::Round
            | Func::Md5 => {}
            Func::Custom(_) => self.custom("Func::cust"),
            Func::PgFunction(_) if self.guard.engine == Engine::Sqlite => self.unsupported("a function of PostgreSQL"),
            Func::PgFunction(
                PgFunc::ToTsquery
                | PgFunc::ToTsvector
                | PgFunc::PhrasetoTsquery
                | PgFunc::PlaintoTsquery
                | PgFunc::WebsearchToTsquery
                | PgFunc::TsRank
                | PgFunc::TsRankCd
                | PgFunc::StartsWith
                | PgFunc::GenRandomUUID
                | PgFunc::JsonBuildObject
                | PgFunc::JsonAgg
                | PgFunc::ArrayAgg
                | PgFunc::DateTrunc
                | PgFunc::Any
                | PgFunc::Some
                | PgFunc::All,
            ) => {}
            _ => self.unsupported("a function that is not on the list of harmless ones"),
        }
        call.get_args().iter().for_each(|argument| self.expression(argument));
        if let Some(filter) = call.get_filter() {
            self.expression(&Expr::from(filter.clone()));
        }
    }

    fn operator(&self, operator: BinOper) {
        match operator {
            BinOper::And
            | BinOper::Or
            | BinOper::Like
            | BinOper::NotLike
            | BinOper::Is
            | BinOper::IsNot
            | BinOper::In
            | BinOper::NotIn
            | BinOper::Between
            | BinOper::NotBetween
            | BinOper::Equal
            | BinOper::NotEqual
            | BinOper::SmallerThan
            | BinOper::GreaterThan
            | BinOper::SmallerThanOrEqual
            | BinOper::GreaterThanOrEqual
            | BinOper::Add
            | BinOper::Sub
            | BinOper::Mul
            | BinOper::Div
            | BinOper::Mod
            | BinOper::BitAnd
            | BinOper::BitOr
            | BinOper::LShift
            | BinOper::RShift
            | BinOper::As
            | BinOper::Escape => {}
            BinOper::Custom(_) => self.custom("BinOper::Custom"),
            BinOper::PgOperator(_) if self.guard.engine == Engine::Postgres => {}
            BinOper::SqliteOperator(_) if self.guard.engine == Engine::Sqlite => {}
            BinOper::PgOperator(_) => self.unsupported("an operator of PostgreSQL"),
            BinOper::SqliteOperator(_) => self.unsupported("an operator of SQLite"),
            _ => self.unsupported("an operator that this version does not know"),
        }
    }

    /// No query in a condition is scoped; the ones that the builder makes do not come through here.
    fn query(&self, query: &SubQueryStatement) {
        let audit = match query {
            SubQueryStatement::SelectStatement(select) => AuditTrait::audit(select),
            SubQueryStatement::InsertStatement(insert) => AuditTrait::audit(insert),
            SubQueryStatement::UpdateStatement(update) => AuditTrait::audit(update),
            SubQueryStatement::DeleteStatement(delete) => AuditTrait::audit(delete),
            SubQueryStatement::WithStatement(with) => AuditTrait::audit(with),
        };
        let table = self.guard.table.to_owned();
        self.refuse(match audit.ok().and_then(|audit| self.guard.foreign(&audit)) {
            Some(foreign) => Error::ForeignTable { table, foreign },
            None => Error::UnscopedSubquery { table },
        });
    }

    /// The renderer of PostgreSQL writes an enum's type name as it stands.
    fn value(&self, value: &Value) {
        use sea_orm::sea_query::{ArrayType, OptionEnum};
        let type_name = match value {
            Value::Enum(OptionEnum::Some(value)) => value.type_name.to_string(),
            Value::Enum(OptionEnum::None(type_name)) => type_name.to_string(),
            Value::Array(ArrayType::Enum(type_name), _) => type_name.to_string(),
            _ => return,
        };
        self.identifier_text(&type_name);
    }

    fn identifier(&self, identifier: &DynIden) {
        self.identifier_text(&identifier.to_string());
    }

    /// sea-query does not escape identifiers that are static text.
    fn identifier_text(&self, identifier: &str) {
        if identifier.contains(['"', '\0']) {
            self.unsupported("an identifier with a quotation mark");
        }
    }

    /// A case keeps its conditions to itself; rendering it with this walk as the renderer shows them.
    fn case(&self, case: &CaseStatement) {
        self.prepare_case_statement(case, &mut String::new());
    }

    fn custom(&self, what: &'static str) {
        self.custom.set(true);
        if self.guard.isolation == Isolation::PredicateOnly {
            self.refuse(Error::CustomExpression { table: self.guard.table.to_owned(), what });
        }
    }

    fn unsupported(&self, what: &'static str) {
        self.refuse(Error::UnsupportedExpression { table: self.guard.table.to_owned(), what });
    }

    fn refuse(&self, refusal: Error) {
        self.refusal.borrow_mut().get_or_insert(refusal);
    }
}

/// `numeric(10, 2)`, `double precision`: letters, digits, underscores, spaces, and one pair of parentheses at the end.
fn is_plain_type(name: &str) -> bool {
    let (base, arguments) = match name.strip_suffix(')').and_then(|name| name.split_once('(')) {
        Some((base, arguments)) => (base, arguments),
        None => (name, ""),
    };
    base.starts_with(|c: char| c.is_ascii_alphabetic())
        && base.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ' ')
        && arguments.chars().all(|c| c.is_ascii_digit() || c == ',' || c == ' ')
}

// What it renders is thrown away: the walk is a renderer only because that is the one way into a CASE.
impl QueryBuilder for Walk<'_> {
    fn prepare_expr(&self, expression: &Expr, _: &mut impl SqlWriter) {
        self.expression(expression);
    }

    fn prepare_query_statement(&self, query: &SubQueryStatement, _: &mut impl SqlWriter) {
        self.query(query);
    }

    fn prepare_value(&self, value: Value, _: &mut impl SqlWriter) {
        self.value(&value);
    }

    fn prepare_select_into(&self, _: &SelectInto, _: &mut impl SqlWriter) {}

    fn prepare_explain_statement(&self, _: &ExplainStatement, _: &mut impl SqlWriter) {}
}

impl QuotedBuilder for Walk<'_> {
    fn quote(&self) -> Quote {
        Quote::new(b'"')
    }
}

impl EscapeBuilder for Walk<'_> {}

impl TableRefBuilder for Walk<'_> {}

impl OperLeftAssocDecider for Walk<'_> {
    fn well_known_left_associative(&self, _: &BinOper) -> bool {
        false
    }
}

impl PrecedenceDecider for Walk<'_> {
    fn inner_expr_well_known_greater_precedence(&self, _: &Expr, _: &Oper) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
