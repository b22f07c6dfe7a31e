//! Why a figure could not be taken.

/// A figure could not be taken, or would mean nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A part of the work failed.
    #[error("cannot {doing}")]
    Doing {
        /// What was to be done.
        doing: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer is not the right one, so that its speed says nothing; or an argument names nothing.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// For `map_err`.
    pub fn doing<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let doing = doing.into();
        move |source| Self::Doing { doing, source: source.into() }
    }

    /// The error with everything that led to it, in one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            cause = inner.source();
        }
        text
    }
}
