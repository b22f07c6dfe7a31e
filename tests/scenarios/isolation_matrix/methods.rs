//! The rows of the matrix: every method that reaches a tenant's rows, and what is expected of it.

use tenantry_connection::Engine;

use super::cell::{
    Case,
    Outcome::{
        self, Count, ForgedTenant, IdShape, InvalidSearch, Is, NoRow, NotApplicable, NotFound, Page, PermissionDenied,
        RawSqlRefused, RefusedByRouting, Row, Rows, UniqueViolation, Written,
    },
};

/// A method, as the crates' sources name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Method {
    FindById,
    FindOne,
    FindMany,
    Search,
    Exists,
    ExistsWhere,
    Count,
    Paginate,
    PageAfter,
    Stream,
    Create,
    Update,
    Delete,
    BulkCreate,
    BulkUpdate,
    BulkUpdateWhere,
    BulkDelete,
    BulkDeleteWhere,
    SelectAll,
    SelectOne,
    SelectExists,
    SelectCount,
    SelectStream,
    SelectJoin,
    SelectLeftJoin,
    SelectWhereExists,
    SelectWhereNotExists,
    InsertExecute,
    InsertReturning,
    UpdateExecute,
    UpdateReturning,
    DeleteExecute,
    WriteLog,
    QueryRawSql,
    ExecuteRawSql,
}

impl Method {
    /// Whether it reads and does nothing else.
    pub(super) fn only_reads(self) -> bool {
        match self {
            Self::FindById
            | Self::FindOne
            | Self::FindMany
            | Self::Search
            | Self::Exists
            | Self::ExistsWhere
            | Self::Count
            | Self::Paginate
            | Self::PageAfter
            | Self::Stream
            | Self::SelectAll
            | Self::SelectOne
            | Self::SelectExists
            | Self::SelectCount
            | Self::SelectStream
            | Self::SelectJoin
            | Self::SelectLeftJoin
            | Self::SelectWhereExists
            | Self::SelectWhereNotExists
            | Self::WriteLog
            | Self::QueryRawSql => true,
            Self::Create
            | Self::Update
            | Self::Delete
            | Self::BulkCreate
            | Self::BulkUpdate
            | Self::BulkUpdateWhere
            | Self::BulkDelete
            | Self::BulkDeleteWhere
            | Self::InsertExecute
            | Self::InsertReturning
            | Self::UpdateExecute
            | Self::UpdateReturning
            | Self::DeleteExecute
            | Self::ExecuteRawSql => false,
        }
    }
}

/// What is expected of a method.
pub(super) struct Expectation {
    pub(super) method: Method,
    /// The type and the method.
    pub(super) name: &'static str,
    /// Own, foreign, unknown and forged; a suspended tenant gets no handle to call anything on.
    answers: [Outcome; 4],
    /// On SQLite, where it is another.
    on_sqlite: Option<Outcome>,
}

const fn row(method: Method, name: &'static str, answers: [Outcome; 4]) -> Expectation {
    Expectation { method, name, answers, on_sqlite: None }
}

/// A row that nobody is let through to where no policy stands behind.
const fn policy_only(method: Method, name: &'static str, answers: [Outcome; 4]) -> Expectation {
    Expectation { method, name, answers, on_sqlite: Some(RawSqlRefused) }
}

pub(super) const METHODS: [Expectation; 35] = [
    row(Method::FindById, "Repository::find_by_id", [Row, NoRow, NoRow, IdShape]),
    row(Method::FindOne, "Repository::find_one", [Row, NoRow, NoRow, NoRow]),
    row(Method::FindMany, "Repository::find_many", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::Search, "Repository::search", [Rows(1), Rows(0), Rows(0), InvalidSearch]),
    row(Method::Exists, "Repository::exists", [Is(true), Is(false), Is(false), IdShape]),
    row(Method::ExistsWhere, "Repository::exists_where", [Is(true), Is(false), Is(false), Is(false)]),
    row(Method::Count, "Repository::count", [Count(1), Count(0), Count(0), Count(0)]),
    row(Method::Paginate, "Repository::paginate", [Page(1, 1), Page(0, 0), Page(0, 0), Page(0, 0)]),
    row(Method::PageAfter, "Repository::page_after", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::Stream, "Repository::stream", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::Create, "Repository::create", [UniqueViolation, Row, Row, ForgedTenant]),
    row(Method::Update, "Repository::update", [Row, NotFound, NotFound, ForgedTenant]),
    row(Method::Delete, "Repository::delete", [Is(true), Is(false), Is(false), IdShape]),
    row(Method::BulkCreate, "Repository::bulk_create", [UniqueViolation, Written(2), Written(2), ForgedTenant]),
    row(Method::BulkUpdate, "Repository::bulk_update", [Written(1), Written(0), Written(0), ForgedTenant]),
    row(Method::BulkUpdateWhere, "Repository::bulk_update_where", [Written(1), Written(0), Written(0), ForgedTenant]),
    row(Method::BulkDelete, "Repository::bulk_delete", [Written(1), Written(0), Written(0), IdShape]),
    row(Method::BulkDeleteWhere, "Repository::bulk_delete_where", [Written(1), Written(0), Written(0), Written(0)]),
    row(Method::SelectAll, "ScopedSelect::all", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::SelectOne, "ScopedSelect::one", [Row, NoRow, NoRow, NoRow]),
    row(Method::SelectExists, "ScopedSelect::exists", [Is(true), Is(false), Is(false), Is(false)]),
    row(Method::SelectCount, "ScopedSelect::count", [Count(1), Count(0), Count(0), Count(0)]),
    row(Method::SelectStream, "ScopedSelect::stream", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::SelectJoin, "ScopedSelect::join", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::SelectLeftJoin, "ScopedSelect::left_join", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    row(Method::SelectWhereExists, "ScopedSelect::where_exists", [Rows(1), Rows(0), Rows(0), Rows(0)]),
    // Of the two contacts that the tenant has, the other one; of a foreign or unknown account neither is a contact.
    row(Method::SelectWhereNotExists, "ScopedSelect::where_not_exists", [Rows(1), Rows(2), Rows(2), Rows(2)]),
    row(Method::InsertExecute, "ScopedInsert::execute", [UniqueViolation, Written(2), Written(2), ForgedTenant]),
    row(Method::InsertReturning, "ScopedInsert::returning", [UniqueViolation, Rows(2), Rows(2), ForgedTenant]),
    row(Method::UpdateExecute, "ScopedUpdate::execute", [Written(1), Written(0), Written(0), ForgedTenant]),
    row(Method::UpdateReturning, "ScopedUpdate::returning", [Rows(1), Rows(0), Rows(0), ForgedTenant]),
    row(Method::DeleteExecute, "ScopedDelete::execute", [Written(1), Written(0), Written(0), Written(0)]),
    row(Method::WriteLog, "TenantDb::write_log", [Is(true), Is(false), Is(false), NotApplicable]),
    policy_only(
        Method::QueryRawSql,
        "TenantTransaction::query_raw_sql_outside_the_tenant_guard",
        [Rows(1), Rows(0), Rows(0), Rows(0)],
    ),
    policy_only(
        Method::ExecuteRawSql,
        "TenantTransaction::execute_raw_sql_outside_the_tenant_guard",
        [Written(1), Written(0), Written(0), PermissionDenied],
    ),
];

impl Expectation {
    pub(super) fn answer(&self, case: Case, engine: Engine) -> Outcome {
        let [own, foreign, unknown, forged] = self.answers;
        let answer = match case {
            Case::Own => own,
            Case::Foreign => foreign,
            Case::Unknown => unknown,
            Case::Forged => forged,
            Case::Suspended => return RefusedByRouting,
        };
        if engine == Engine::Sqlite { self.on_sqlite.unwrap_or(answer) } else { answer }
    }
}

/// What is public beside the rows: methods that make or narrow a statement, and those that every cell goes through.
pub(super) const WITHOUT_A_ROW: [(&str, &str); 32] = [
    ("TenantHandle::tenant", "tells what the handle is bound to"),
    ("TenantHandle::key", "tells what the handle is bound to"),
    ("TenantHandle::access", "tells what the handle is bound to"),
    ("TenantHandle::isolation", "tells what the handle is bound to"),
    ("TenantHandle::engine", "tells what the handle is bound to"),
    ("TenantHandle::actor", "tells what the handle is bound to"),
    ("TenantHandle::select", "makes a statement; its rows are those of ScopedSelect"),
    ("TenantHandle::insert", "makes a statement; its rows are those of ScopedInsert"),
    ("TenantHandle::update", "makes a statement; its rows are those of ScopedUpdate"),
    ("TenantHandle::delete", "makes a statement; its rows are those of ScopedDelete"),
    ("TenantHandle::begin_unit", "every write of a repository is one"),
    ("TenantHandle::undo_if_in_transaction", "writes nothing: it makes a transaction one that can only be rolled back"),
    ("RepositoryExt::repository", "makes a repository; its rows are those of Repository"),
    ("TenantDb::as_user", "called by the concurrent cells"),
    ("TenantDb::begin", "called by the cells with raw SQL"),
    ("TenantDb::begin_read", "called by the cells in a transaction, where the method only reads"),
    ("TenantDb::lease", "called by the cells on a lease"),
    ("TenantDb::transaction", "called by the cells in a transaction"),
    ("TenantLease::begin", "called by the cells on a lease with raw SQL"),
    ("TenantLease::begin_read", "called by the cells on a lease"),
    ("TenantTransaction::commit", "called by the cells in a transaction"),
    ("TenantTransaction::rollback", "called by the cells in a transaction"),
    ("UnitOfWork::transaction", "every write of a repository is one"),
    ("UnitOfWork::finish", "every write of a repository is one"),
    ("ScopedSelect::filter", "narrows; the guard checks its condition"),
    ("ScopedSelect::order_by", "takes columns only"),
    ("ScopedSelect::limit", "narrows"),
    ("ScopedSelect::offset", "narrows"),
    ("ScopedUpdate::set", "what ScopedUpdate's rows are made with"),
    ("ScopedUpdate::filter", "narrows; the guard checks its condition"),
    ("ScopedUpdate::is_empty", "tells whether there is something to set"),
    ("ScopedDelete::filter", "narrows; the guard checks its condition"),
];
