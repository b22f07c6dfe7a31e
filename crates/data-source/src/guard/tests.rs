//! The guard's walk, over every way there is to write an expression.

use sea_orm::{
    ExprTrait,
    sea_query::{
        Alias, Asterisk, CommonTableExpression, Func, IntoCondition, IntoIden, LikeExpr, Query, TableName, WithClause,
        extension::{postgres::PgBinOper, sqlite::SqliteBinOper},
    },
};

use super::*;

fn table(name: &'static str) -> TableName {
    TableName(None, Alias::new(name).into_iden())
}

fn check(engine: Engine, isolation: Isolation, condition: impl IntoCondition) -> Result<(), Error> {
    let scoped = [table("notes")];
    Guard { table: "notes", scoped: &scoped, engine, isolation }.check_condition(&condition.into_condition()).map(drop)
}

fn unguarded(condition: impl IntoCondition) -> Result<(), Error> {
    check(Engine::Sqlite, Isolation::PredicateOnly, condition)
}

fn column(name: &'static str) -> Expr {
    Expr::col((Alias::new("notes"), Alias::new(name)))
}

fn select_from(name: &'static str) -> sea_orm::sea_query::SelectStatement {
    Query::select().column(Alias::new("id")).from(Alias::new(name)).to_owned()
}

/// SQL text, wherever an expression can hold it. An upgrade of sea-query that adds a place makes the walk refuse it as unknown;
/// one that hides SQL text in a place which is walked already has to show up here.
#[test]
fn sql_text_is_found_wherever_it_hides() {
    let hostile = || Expr::cust("1=1) OR (1=1");
    let hidden: Vec<(&str, Expr)> = vec![
        ("bare", hostile()),
        ("with values", Expr::cust_with_values("id = ?", [1])),
        ("with an expression", Expr::cust_with_expr("? OR 1=1", column("id"))),
        ("with expressions", Expr::cust_with_exprs("? OR ?", [column("id"), Expr::val(1)])),
        ("left of an operator", hostile().and(column("id").eq(1))),
        ("right of an operator", column("id").eq(1).or(hostile())),
        ("under NOT", hostile().not()),
        ("in a tuple", Expr::tuple([column("id"), hostile()])),
        ("in IN", column("id").is_in([hostile()])),
        ("in BETWEEN", column("id").between(hostile(), 3)),
        ("in a function", Func::lower(hostile()).into()),
        ("in a function's function", Func::lower(Func::coalesce([column("id"), hostile()])).into()),
        ("in a function's filter", Func::count(column("id")).filter(hostile()).into()),
        ("as a function", Func::cust("1) OR (1").arg(1).into()),
        ("as a harmless-looking function", Func::cust("load_extension").arg("x").into()),
        ("as an operator", column("id").binary(BinOper::Custom("= 1) OR (1 ="), 1)),
        ("as a keyword", Expr::Keyword(Keyword::Custom(Alias::new("1) OR (1").into_iden()))),
        ("as a type", column("id").cast_as("text) = '' OR (1").eq("x")),
        ("as a cast's value", hostile().cast_as("text").eq("x")),
        ("as an enum", hostile().as_enum("kind")),
        ("in a case's condition", CaseStatement::new().case(hostile(), 1).finally(2).into()),
        ("in a case's result", CaseStatement::new().case(column("id").eq(1), hostile()).into()),
        ("in a case's else", CaseStatement::new().case(column("id").eq(1), 1).finally(hostile()).into()),
        (
            "in a case within a case",
            CaseStatement::new()
                .case(Expr::Case(Box::new(CaseStatement::new().case(hostile(), true))), 1)
                .finally(2)
                .into(),
        ),
    ];
    for (place, expression) in hidden {
        let deep = Condition::all()
            .add(Condition::any().add(column("id").eq(1)).add(expression.clone().into_condition().not()));
        for condition in [expression.into_condition(), deep] {
            assert!(matches!(unguarded(condition), Err(Error::CustomExpression { .. })), "{place}");
        }
    }
}

#[test]
fn typed_expressions_pass_whatever_text_they_bind() {
    let harmless: Vec<Expr> = vec![
        column("id").eq("Custom(\"x\") SubQuery( \" ' -- "),
        column("title").like(LikeExpr::new("100\\%").escape('\\')),
        column("title").is_null().or(column("title").is_in(["a", "b"])),
        column("id").is_in(Vec::<i32>::new()),
        column("id").between(1, 3),
        Func::lower(column("title")).eq("x"),
        column("id").cast_as("text").eq("1"),
        column("price").cast_as("numeric(10, 2)").gt(1),
        column("price").cast_as("double precision").gt(1),
        CaseStatement::new().case(column("id").gt(1), "many").finally("few").into(),
        Expr::tuple([column("a"), column("b")]).eq(Expr::tuple([1.into(), 2.into()])),
        column("title").binary(SqliteBinOper::Glob, "*x*"),
        Expr::col(Asterisk).count().gt(1),
        Expr::current_timestamp().gt(column("at")),
    ];
    for expression in harmless {
        unguarded(expression).expect("a typed expression is let through");
    }
    unguarded(Condition::any()).expect("nothing is let through");
}

#[test]
fn a_query_in_a_condition_is_refused_on_every_engine_and_isolation() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        for isolation in [Isolation::Policy, Isolation::PredicateOnly] {
            let refused = |condition: Expr| check(engine, isolation, condition);
            for foreign in [
                column("id").in_subquery(select_from("tenants")),
                column("id").not_in_subquery(select_from("tenants")),
                Expr::exists(select_from("tenants")),
                column("id").eq(Expr::any(select_from("tenants"))),
                Func::coalesce([Expr::SubQuery(
                    None,
                    Box::new(SubQueryStatement::SelectStatement(select_from("tenants"))),
                )])
                .into(),
                CaseStatement::new().case(Expr::exists(select_from("tenants")), 1).into(),
            ] {
                let refusal = refused(foreign);
                assert!(
                    matches!(&refusal, Err(Error::ForeignTable { foreign, .. }) if foreign == "tenants"),
                    "{refusal:?}"
                );
            }
            // The statement's own table without the predicate shows every tenant's rows, too.
            let own = refused(column("id").in_subquery(select_from("notes")));
            assert!(matches!(own, Err(Error::UnscopedSubquery { .. })), "{own:?}");
            // Where sea-query's audit is blind.
            let ordered = Query::select()
                .expr(Expr::val(1))
                .order_by_expr(Expr::exists(select_from("tenants")), sea_orm::Order::Asc)
                .to_owned();
            assert!(refused(Expr::exists(ordered)).is_err());
            let with = WithClause::new()
                .cte(
                    CommonTableExpression::new().query(select_from("notes")).table_name(Alias::new("notes")).to_owned(),
                )
                .to_owned()
                .query(select_from("notes"));
            assert!(refused(Expr::SubQuery(None, Box::new(SubQueryStatement::WithStatement(with)))).is_err());
        }
    }
}

#[test]
fn a_policy_behind_the_statement_lets_sql_text_pass() {
    check(Engine::Postgres, Isolation::Policy, Expr::cust("title ~ 'x'")).expect("the policy holds whatever it says");
}

/// sea-query panics on these when it renders them; the guard answers first.
#[test]
fn what_an_engine_does_not_have_is_an_error_and_no_panic() {
    for elsewhere in [column("title").binary(PgBinOper::ILike, "x"), PgFunc::gen_random_uuid().eq(1)] {
        assert!(matches!(unguarded(elsewhere.clone()), Err(Error::UnsupportedExpression { .. })));
        check(Engine::Postgres, Isolation::PredicateOnly, elsewhere).expect("PostgreSQL has it");
    }
    let glob = column("title").binary(SqliteBinOper::Glob, "x");
    assert!(matches!(check(Engine::Postgres, Isolation::Policy, glob), Err(Error::UnsupportedExpression { .. })));
    let lock = PgFunc::advisory_lock(1);
    assert!(check(Engine::Postgres, Isolation::Policy, Expr::from(lock)).is_err(), "a lock would outlive the lease");
}

/// sea-query writes static identifiers and enum types as they stand.
#[test]
fn an_identifier_cannot_end_its_quotation() {
    for hostile in [
        Expr::col("id\" = 1 OR \"id").eq(1),
        Expr::col(("notes\"", "id")).eq(1),
        column("kind").as_enum("kind\") = 1 OR (\"x").eq(1),
    ] {
        for isolation in [Isolation::Policy, Isolation::PredicateOnly] {
            assert!(matches!(
                check(Engine::Postgres, isolation, hostile.clone()),
                Err(Error::UnsupportedExpression { .. })
            ));
        }
    }
}

#[test]
fn a_statement_may_use_the_tables_that_were_scoped_and_no_other() {
    let scoped = [table("notes")];
    let guard = Guard { table: "notes", scoped: &scoped, engine: Engine::Sqlite, isolation: Isolation::Policy };
    guard.check_statement(&select_from("notes")).expect("its own table");
    let mut joined = select_from("notes");
    joined.inner_join(Alias::new("tenants"), column("id").eq(1));
    assert!(matches!(guard.check_statement(&joined), Err(Error::ForeignTable { foreign, .. }) if foreign == "tenants"));
    let other_schema = Query::select().column(Asterisk).from((Alias::new("other"), Alias::new("notes"))).to_owned();
    assert!(
        matches!(guard.check_statement(&other_schema), Err(Error::ForeignTable { foreign, .. }) if foreign == "other.notes")
    );
}
