//! Pages.

use serde::Serialize;

use crate::Error;

/// The most rows a page can have.
pub const MAX_PAGE_LIMIT: u64 = 1_000;

/// One page of rows and where it is among all.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PageResult<T> {
    /// The rows of this page; none behind the last page.
    pub items: Vec<T>,
    /// Which page this is, counted from 1.
    pub page: u64,
    /// The most rows a page has.
    pub limit: u64,
    /// All rows, on every page.
    pub total: u64,
    /// All pages; 0 when there are no rows.
    pub total_pages: u64,
    /// Whether there are rows behind this page.
    pub has_next: bool,
    /// Whether there is a page before this one.
    pub has_previous: bool,
}

impl<T> PageResult<T> {
    pub(crate) fn new(items: Vec<T>, page: u64, limit: u64, total: u64) -> Self {
        let total_pages = total.div_ceil(limit);
        Self { items, page, limit, total, total_pages, has_next: page < total_pages, has_previous: page > 1 }
    }
}

/// How many rows stand before a page.
pub(crate) fn offset(page: u64, limit: u64) -> Result<u64, Error> {
    let invalid = Error::InvalidPage { page, limit, max: MAX_PAGE_LIMIT };
    if page == 0 || limit == 0 || limit > MAX_PAGE_LIMIT {
        return Err(invalid);
    }
    (page - 1).checked_mul(limit).filter(|offset| i64::try_from(*offset).is_ok()).ok_or(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_where_it_is() {
        let page = PageResult::new(vec![1, 2], 2, 2, 5);
        assert_eq!((page.total_pages, page.has_next, page.has_previous), (3, true, true));
        let last = PageResult::new(vec![5], 3, 2, 5);
        assert_eq!((last.has_next, last.has_previous), (false, true));
        let none = PageResult::<u8>::new(vec![], 1, 2, 0);
        assert_eq!((none.total_pages, none.has_next, none.has_previous), (0, false, false));
        let behind = PageResult::<u8>::new(vec![], 9, 2, 5);
        assert_eq!((behind.total_pages, behind.has_next, behind.has_previous), (3, false, true));
    }

    #[test]
    fn a_page_that_cannot_be_is_refused_before_the_database_is_asked() {
        for (page, limit) in [(0, 10), (1, 0), (1, MAX_PAGE_LIMIT + 1), (u64::MAX, 2), (u64::MAX / 1_000, 1_000)] {
            assert!(matches!(offset(page, limit), Err(Error::InvalidPage { .. })), "{page} of {limit}");
        }
        assert!(matches!(offset(3, 10), Ok(20)));
    }
}
