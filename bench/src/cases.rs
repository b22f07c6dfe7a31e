//! What is compared with what. Each case runs at its sizes: numbers of tasks, or of tenants for look-ups.

mod baseline;
mod limit;
mod neighbour;
mod pooled;
mod reads;
pub mod routing;
mod transfers;
mod writes;

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::Error;
use crate::method::Plan;
use crate::report::Line;
use crate::world::World;
use crate::world::fleet::Fleet;
use crate::world::moves::Moves;
use routing::Counted;
use transfers::Large;

/// What the cases run on.
pub struct Bench {
    /// The databases.
    pub world: Arc<World>,
    /// The rounds of a comparison.
    pub plan: Plan,
    fleet: OnceCell<Fleet>,
    counted: OnceCell<Counted>,
    moves: OnceCell<Moves>,
    large: OnceCell<Large>,
}

/// A case and the sizes at which it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// Numbers of tasks, or of tenants.
    pub sizes: &'static [usize],
}

const fn case(name: &'static str) -> Case {
    Case { name, sizes: &[1, 8] }
}

/// All of them, in the order in which they run: reads before writes, which make the tables grow.
pub const CASES: [Case; 20] = [
    case("pk_read"),
    case("pk_read_spread"),
    case("pk_read_noping"),
    case("pk_read_limit"),
    case("page_read"),
    case("pooler_read"),
    Case { name: "neighbour", sizes: &neighbour::SIZES },
    Case { name: "neighbour_foreign", sizes: &neighbour::SIZES },
    case("insert_fence"),
    case("insert_log"),
    case("update_fence"),
    case("update_log"),
    Case { name: "route", sizes: &routing::SIZES },
    Case { name: "tenants_memory", sizes: &[crate::world::fleet::TENANTS] },
    Case { name: "transfer/copy", sizes: &[1] },
    Case { name: "transfer/pgdump", sizes: &[1] },
    Case { name: "transfer/memory", sizes: &[1] },
    Case { name: "transfer/small", sizes: &[1] },
    Case { name: "transfer/scaling", sizes: &[4, 16] },
    Case { name: "transfer/neighbours", sizes: &[10] },
];

/// The cases that are asked for, as `pk_read` or `pk_read/8`, in the order in which they run; all when none is.
///
/// # Errors
/// [`Error::Wrong`] with the names there are.
pub fn chosen(asked: &[String]) -> Result<Vec<(&'static str, usize)>, Error> {
    let all: Vec<_> = CASES.iter().flat_map(|case| case.sizes.iter().map(|size| (case.name, *size))).collect();
    let means = |asked: &str, (name, size): (&str, usize)| asked == name || asked == format!("{name}/{size}");
    if let Some(unknown) = asked.iter().find(|asked| !all.iter().any(|case| means(asked, *case))) {
        let names = CASES.map(|case| case.name).join(", ");
        return Err(Error::Wrong(format!("there is no case {unknown:?}; there are {names}")));
    }
    Ok(all.into_iter().filter(|case| asked.is_empty() || asked.iter().any(|asked| means(asked, *case))).collect())
}

impl Bench {
    /// Cases on a world.
    pub fn new(world: World, plan: Plan) -> Self {
        Self {
            world: Arc::new(world),
            plan,
            fleet: OnceCell::new(),
            counted: OnceCell::new(),
            moves: OnceCell::new(),
            large: OnceCell::new(),
        }
    }

    /// Runs one case at one size.
    ///
    /// # Errors
    /// What a side ran into, and an answer that is not the right one.
    pub async fn run(&self, case: &'static str, size: usize) -> Result<Line, Error> {
        match case {
            "pk_read" => reads::pk_read(self, case, size, true, [1.7, 1.6]).await,
            "pk_read_noping" => reads::pk_read(self, case, size, false, [1.4, 1.4]).await,
            "pk_read_spread" => reads::pk_read_spread(self, case, size).await,
            "pk_read_limit" => limit::pk_read_limit(self, case, size).await,
            "page_read" => reads::page_read(self, case, size).await,
            "pooler_read" => pooled::pooler_read(self, case, size).await,
            "neighbour" => neighbour::neighbour(self, case, size).await,
            "neighbour_foreign" => neighbour::neighbour_foreign(self, case, size).await,
            "insert_fence" => writes::insert_fence(self, case, size).await,
            "insert_log" => writes::insert_log(self, case, size).await,
            "update_fence" => writes::update_fence(self, case, size).await,
            "update_log" => writes::update_log(self, case, size).await,
            "route" => routing::route(self, case, size).await,
            "tenants_memory" => routing::tenants_memory(self, case, size).await,
            "transfer/copy" => Ok(transfers::copy(self.large().await?)),
            "transfer/pgdump" => Ok(transfers::pg_dump(self.large().await?)),
            "transfer/memory" => transfers::memory(self.moves().await?, self.large().await?),
            "transfer/small" => transfers::small(self.moves().await?, self.plan),
            "transfer/scaling" => transfers::scaling(self.moves().await?, self.plan, size),
            "transfer/neighbours" => transfers::neighbours(self.moves().await?, self.plan, size),
            other => Err(Error::Wrong(format!("there is no case {other:?}"))),
        }
    }

    async fn moves(&self) -> Result<&Moves, Error> {
        self.moves.get_or_try_init(|| transfers::moves(self.plan)).await
    }

    async fn large(&self) -> Result<&Large, Error> {
        let moves = self.moves().await?;
        self.large.get_or_try_init(async || transfers::large(moves, self.plan)).await
    }

    async fn fleet(&self) -> Result<&Fleet, Error> {
        self.fleet.get_or_try_init(|| Fleet::create(self.world.directory.path())).await
    }

    async fn counted(&self) -> Result<&Counted, Error> {
        let fleet = self.fleet().await?;
        self.counted.get_or_try_init(|| routing::count(fleet)).await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn cases_are_chosen_by_name_and_by_size() {
        assert_eq!(chosen(&["pk_read".to_owned()]).unwrap(), [("pk_read", 1), ("pk_read", 8)]);
        assert_eq!(chosen(&["pk_read/8".to_owned()]).unwrap(), [("pk_read", 8)]);
        assert_eq!(chosen(&[]).unwrap().len(), CASES.iter().map(|case| case.sizes.len()).sum::<usize>());
        let refused = chosen(&["pk_reed".to_owned()]).unwrap_err().to_string();
        assert!(refused.starts_with("there is no case \"pk_reed\"; there are pk_read, "), "{refused}");
    }
}
