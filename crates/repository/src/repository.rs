//! Reading and writing one tenant's rows of one entity.

mod bulk;
mod write;

use std::marker::PhantomData;

use futures_util::{StreamExt, stream::BoxStream};
use tenantry_data_source::{Mode, ScopedSelect, TenantHandle};
use tenantry_realm::TenantEntity;

use crate::{
    Cursor, CursorPage, Error, IdValue, MAX_PAGE_LIMIT, PageResult, Query, SearchOptions, cursor::cursor_of,
    id::has_id, page,
};

/// Makes repositories; on every handle of a tenant.
pub trait RepositoryExt: TenantHandle + Sized {
    /// The tenant's rows of `E`.
    fn repository<E: TenantEntity>(&self) -> Repository<'_, E, Self> {
        Repository { handle: self, entity: PhantomData }
    }
}

impl<H: TenantHandle> RepositoryExt for H {}

/// One tenant's rows of one entity, for as long as the handle is borrowed. Every call on a `TenantDb` is a transaction of its
/// own; every call on a `TenantTransaction` is part of it.
///
/// An id is the primary key without the tenant column: see [`IdValue`].
pub struct Repository<'h, E, H> {
    handle: &'h H,
    entity: PhantomData<fn() -> E>,
}

impl<E, H> Clone for Repository<'_, E, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, H> Copy for Repository<'_, E, H> {}

impl<'h, E: TenantEntity, H: TenantHandle> Repository<'h, E, H> {
    /// The row with this id, if the tenant has it.
    ///
    /// # Errors
    /// [`Error::IdShape`], and what reading ran into.
    pub async fn find_by_id(&self, id: impl Into<IdValue> + Send) -> Result<Option<E::Model>, Error> {
        let select = self.by_id(&id.into())?;
        Ok(select.one(self.handle).await?)
    }

    /// The first row of the query, if any.
    ///
    /// # Errors
    /// What the guard refuses, and what reading ran into.
    pub async fn find_one(&self, query: &Query<E>) -> Result<Option<E::Model>, Error> {
        Ok(query.select(self.handle)?.one(self.handle).await?)
    }

    /// Every row of the query, in memory: give it a limit, or use [`Self::paginate`] or [`Self::stream`].
    ///
    /// # Errors
    /// As [`Self::find_one`].
    pub async fn find_many(&self, query: &Query<E>) -> Result<Vec<E::Model>, Error> {
        Ok(query.select(self.handle)?.all(self.handle).await?)
    }

    /// Every row that a search finds.
    ///
    /// # Errors
    /// [`Error::InvalidSearch`], and what reading ran into.
    pub async fn search(&self, options: SearchOptions<E>) -> Result<Vec<E::Model>, Error> {
        self.find_many(&Query::new().search(options)).await
    }

    /// Whether the tenant has the row with this id.
    ///
    /// # Errors
    /// As [`Self::find_by_id`].
    pub async fn exists(&self, id: impl Into<IdValue> + Send) -> Result<bool, Error> {
        let select = self.by_id(&id.into())?;
        Ok(select.exists(self.handle).await?)
    }

    /// Whether the query has any row; its limit and offset are disregarded.
    ///
    /// # Errors
    /// As [`Self::find_one`].
    pub async fn exists_where(&self, query: &Query<E>) -> Result<bool, Error> {
        Ok(query.narrowed(self.handle)?.exists(self.handle).await?)
    }

    /// How many rows the query has; its limit and offset are disregarded.
    ///
    /// # Errors
    /// As [`Self::find_one`].
    pub async fn count(&self, query: &Query<E>) -> Result<u64, Error> {
        Ok(query.narrowed(self.handle)?.count(self.handle).await?)
    }

    /// A page of the query, whose own limit and offset are disregarded: pages count from 1 and have at most
    /// [`crate::MAX_PAGE_LIMIT`] rows. The id is appended to the order, so that it is complete. Count and page come from one
    /// snapshot; within a `TenantTransaction`, from what that transaction sees.
    ///
    /// # Errors
    /// [`Error::InvalidPage`], and as [`Self::find_one`].
    pub async fn paginate(&self, query: &Query<E>, page: u64, limit: u64) -> Result<PageResult<E::Model>, Error> {
        let offset = page::offset(page, limit)?;
        let unit = self.handle.begin_unit(Mode::Snapshot).await?;
        let read = read_page(query, offset, limit, unit.transaction()).await;
        let (items, total) = unit.finish(read).await?;
        Ok(PageResult::new(items, page, limit, total))
    }

    /// The rows of the query behind a cursor, or its first rows without one; the query's own limit and offset are disregarded. A
    /// page has at most [`crate::MAX_PAGE_LIMIT`] rows and tells where the next one begins. The id is appended to the order, in
    /// the direction of its last column, so that it is complete.
    ///
    /// Pages are stable under writes: among the rows that are there all the time, and keep their values in the order's columns,
    /// none is skipped and none comes twice, whatever is inserted and deleted meanwhile. A row that is moved is found where it is
    /// when its page is read.
    ///
    /// Nothing is counted. With an index over the tenant column and the order's columns, in their directions and with
    /// `NULLS LAST` where a column can be null, a page costs the same wherever it is. It is one statement; where the first column
    /// can be null, a page that reaches the nulls is two.
    ///
    /// The conditions may differ from page to page; the order may not. A cursor is no authority: the rows are this tenant's,
    /// whosever the cursor was.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`], [`Error::InvalidCursor`], [`Error::UnpageableOrder`], and as [`Self::find_one`].
    pub async fn page_after(
        &self,
        query: &Query<E>,
        cursor: Option<&Cursor>,
        limit: u64,
    ) -> Result<CursorPage<E::Model>, Error> {
        if limit == 0 || limit > MAX_PAGE_LIMIT {
            return Err(Error::InvalidLimit { limit, max: MAX_PAGE_LIMIT });
        }
        let Ok(most) = usize::try_from(limit) else { return Err(Error::InvalidLimit { limit, max: MAX_PAGE_LIMIT }) };
        let mut items = Vec::new();
        for select in query.behind(cursor, self.handle)? {
            // One more than the page has tells whether it is the last.
            items.extend(select.limit(limit + 1 - items.len() as u64).all(self.handle).await?);
            if items.len() > most {
                break;
            }
        }
        let more = items.len() > most;
        items.truncate(most);
        let last = items.last().filter(|_| more);
        let next = last.map(|row| cursor_of::<E>(row, &query.complete_order())).transpose()?;
        Ok(CursorPage { items, next })
    }

    /// The rows of the query as they arrive, in bounded memory. The stream holds one connection until its end; dropped midway
    /// it closes that connection. Within a `TenantTransaction` nothing else can be done until it ends, and dropped midway it
    /// gives the transaction up.
    pub fn stream(&self, query: &Query<E>) -> BoxStream<'h, Result<E::Model, Error>>
    where
        E: 'h,
    {
        match query.select(self.handle) {
            Ok(select) => select.stream(self.handle).map(|row| row.map_err(Error::from)).boxed(),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    fn by_id(&self, id: &IdValue) -> Result<ScopedSelect<E>, Error> {
        Ok(self.handle.select::<E>().filter(has_id::<E>(id)?))
    }
}

async fn read_page<E: TenantEntity, H: TenantHandle>(
    query: &Query<E>,
    offset: u64,
    limit: u64,
    handle: &H,
) -> Result<(Vec<E::Model>, u64), Error> {
    let select = query.narrowed(handle)?;
    let total = select.count(handle).await?;
    if offset >= total {
        return Ok((Vec::new(), total));
    }
    Ok((query.fully_ordered(select).offset(offset).limit(limit).all(handle).await?, total))
}
