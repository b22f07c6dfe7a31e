//! What stands for an engine that the program was built without: types that have no value, so that the rest is written once.
//! Only making a pool can be asked of them, and is refused.

use futures_util::{Stream, stream};
use sea_orm::{DatabaseConnection, QueryResult, Values};
use tenantry_credential::Login;

use super::{PoolOptions, PoolStatus};
use crate::{DataSourceUrl, Error, Mode, Session};

/// The pool and the lease of an engine.
macro_rules! absent {
    ($pool:ident, $lease:ident, $watcher:ident, begins: $begun:ty) => {
        #[derive(Clone)]
        pub(crate) enum $pool {}

        impl $pool {
            pub(crate) fn new(url: &DataSourceUrl, _: Option<&Login>, _: &PoolOptions) -> Result<Self, Error> {
                Err(Error::NoDriver { engine: url.engine(), data_source: url.clone() })
            }

            pub(crate) fn with_login(&self, _: Option<&Login>) -> Result<Self, Error> {
                match *self {}
            }

            pub(crate) fn succeeded_by(&self, _: Option<&Login>, _: &PoolOptions) -> Result<Self, Error> {
                match *self {}
            }

            pub(crate) fn url(&self) -> &DataSourceUrl {
                match *self {}
            }

            pub(crate) fn options(&self) -> &PoolOptions {
                match *self {}
            }

            pub(crate) async fn lease(&self, _: &Session) -> Result<$lease, Error> {
                match *self {}
            }

            pub(crate) async fn migration_connection(&self, _: Option<&Login>) -> Result<DatabaseConnection, Error> {
                match *self {}
            }

            pub(crate) async fn watcher(&self, _: &str) -> Result<$watcher, Error> {
                match *self {}
            }

            pub(crate) fn status(&self) -> PoolStatus {
                match *self {}
            }

            pub(crate) async fn close(&self) {
                match *self {}
            }
        }

        pub(crate) enum $watcher {}

        impl $watcher {
            pub(crate) fn listens(&self) -> bool {
                match *self {}
            }

            pub(crate) async fn heard(&mut self, _: &DataSourceUrl) -> Result<(), Error> {
                match *self {}
            }

            pub(crate) async fn query_all(&mut self, _: &str, _: &DataSourceUrl) -> Result<Vec<QueryResult>, Error> {
                match *self {}
            }

            pub(crate) async fn close(self) {
                match self {}
            }
        }

        pub(crate) enum $lease {}

        impl $lease {
            pub(crate) async fn begin(
                &mut self,
                _: &Session,
                _: Mode,
                _: &str,
                _: &DataSourceUrl,
            ) -> Result<$begun, Error> {
                match *self {}
            }

            pub(crate) async fn run(&mut self, _: String, _: Values, _: &DataSourceUrl) -> Result<u64, Error> {
                match *self {}
            }

            pub(crate) async fn run_raw(&mut self, _: &str, _: &DataSourceUrl) -> Result<(), Error> {
                match *self {}
            }

            pub(crate) async fn query_raw(&mut self, _: &str, _: &DataSourceUrl) -> Result<Vec<QueryResult>, Error> {
                match *self {}
            }

            pub(crate) fn stream<'c>(
                &'c mut self,
                _: String,
                _: Values,
                _: &'c DataSourceUrl,
            ) -> impl Stream<Item = Result<QueryResult, Error>> + Send + 'c {
                match *self {}
                #[expect(unreachable_code, reason = "a stream has to be named")]
                stream::empty()
            }
        }
    };
}

#[cfg(not(feature = "sqlite"))]
pub(crate) mod sqlite {
    use super::*;

    absent!(SqlitePool, SqliteLease, SqliteWatcher, begins: bool);

    impl SqliteLease {
        pub(crate) fn close_on_drop(&mut self) {
            match *self {}
        }
    }
}

#[cfg(not(feature = "postgres"))]
pub(crate) mod postgres {
    use sqlx::error::DatabaseError;

    use super::*;

    absent!(PostgresPool, PostgresLease, PostgresWatcher, begins: ());

    impl PostgresPool {
        pub(crate) async fn keeps_session(&self) -> Result<bool, Error> {
            match *self {}
        }

        pub(crate) fn set_max_connections(&self, _: u32) {
            match *self {}
        }

        pub(crate) fn keep_warm(&self, _: u32) {
            match *self {}
        }

        pub(crate) fn renew(&self) {
            match *self {}
        }
    }

    impl PostgresLease {
        pub(crate) async fn query_all(
            &mut self,
            _: &Session,
            _: Mode,
            _: String,
            _: Values,
            _: &DataSourceUrl,
        ) -> Result<Vec<QueryResult>, Error> {
            match *self {}
        }

        pub(crate) async fn execute(
            &mut self,
            _: &Session,
            _: String,
            _: Values,
            _: &DataSourceUrl,
        ) -> Result<u64, Error> {
            match *self {}
        }

        pub(crate) fn keeps_session(&self) -> bool {
            match *self {}
        }

        pub(crate) fn is_clean(&self) -> bool {
            match *self {}
        }

        pub(crate) fn ended(&mut self, _: bool) -> bool {
            match *self {}
        }
    }

    /// No error is PostgreSQL's.
    pub(crate) fn ends_the_session(_: &dyn DatabaseError) -> bool {
        false
    }

    /// No error is PostgreSQL's.
    pub(crate) fn is_outdated_plan(_: &dyn DatabaseError) -> bool {
        false
    }

    /// No error is PostgreSQL's.
    pub(crate) fn column(_: &dyn DatabaseError) -> Option<String> {
        None
    }
}
