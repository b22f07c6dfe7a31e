//! A tenant's share of connections, as `tenants.connection_pool_config` states it. Knows no pool.

use serde_json::Value;

/// The least and the most connections that one tenant may use at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// 1 to [`PoolLimits::MAX`], never above `max`.
    pub min: u32,
    /// 1 to [`PoolLimits::MAX`].
    pub max: u32,
}

/// A `connection_pool_config` that states no usable limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolLimitsError {
    /// Not a JSON object.
    #[error("connection_pool_config is {found}: write an object such as {{\"min\": 2, \"max\": 10}}")]
    NotAnObject {
        /// The JSON type that was found.
        found: &'static str,
    },
    /// A limit that is no whole number of the range.
    #[error("connection_pool_config.{limit} is {found}: write a whole number from 1 to {}", PoolLimits::MAX)]
    OutOfRange {
        /// `min` or `max`.
        limit: &'static str,
        /// What was found.
        found: String,
    },
    /// The least is above the most.
    #[error("connection_pool_config.min is {min}, above max, which is {max}: lower min or raise max")]
    MinAboveMax {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
}

impl PoolLimits {
    /// The largest limit that can be stated.
    pub const MAX: u32 = 1000;

    /// Reads the limits from the column's JSON. What is absent has the default; other members are left to whoever
    /// wrote them.
    ///
    /// # Errors
    /// [`PoolLimitsError`]: correct the tenant's `connection_pool_config`.
    pub fn from_json(config: &Value) -> Result<Self, PoolLimitsError> {
        let object = config.as_object().ok_or(PoolLimitsError::NotAnObject { found: json_type(config) })?;
        let max = limit("max", object.get("max"))?.unwrap_or(Self::default().max);
        // The default must not contradict a stated `max` of 1.
        let min = limit("min", object.get("min"))?.unwrap_or(Self::default().min.min(max));
        if min > max {
            return Err(PoolLimitsError::MinAboveMax { min, max });
        }
        Ok(Self { min, max })
    }

    /// The column's JSON.
    pub fn to_json(self) -> Value {
        serde_json::json!({ "min": self.min, "max": self.max })
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { min: 2, max: 10 }
    }
}

fn limit(name: &'static str, value: Option<&Value>) -> Result<Option<u32>, PoolLimitsError> {
    let Some(value) = value else { return Ok(None) };
    match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
        Some(number) if (1..=PoolLimits::MAX).contains(&number) => Ok(Some(number)),
        _ => Err(PoolLimitsError::OutOfRange { limit: name, found: value.to_string() }),
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_read_and_the_absent_ones_have_defaults() {
        assert_eq!(PoolLimits::from_json(&json!({ "min": 1, "max": 1000 })), Ok(PoolLimits { min: 1, max: 1000 }));
        assert_eq!(PoolLimits::from_json(&json!({ "idle": "10s" })), Ok(PoolLimits { min: 2, max: 10 }));
        assert_eq!(PoolLimits::from_json(&json!({ "max": 1 })), Ok(PoolLimits { min: 1, max: 1 }));
        assert_eq!(PoolLimits::from_json(&PoolLimits::default().to_json()), Ok(PoolLimits::default()));
    }

    /// Regression: a limit of 0, of -1 or of "ten" reached the pool and closed a tenant without a word.
    #[test]
    fn a_wrong_limit_is_named() {
        for (config, message) in [
            (json!([2, 10]), "connection_pool_config is an array: write an object such as {\"min\": 2, \"max\": 10}"),
            (json!({ "min": 0 }), "connection_pool_config.min is 0: write a whole number from 1 to 1000"),
            (json!({ "max": 1001 }), "connection_pool_config.max is 1001: write a whole number from 1 to 1000"),
            (json!({ "max": -1 }), "connection_pool_config.max is -1: write a whole number from 1 to 1000"),
            (json!({ "max": 2.5 }), "connection_pool_config.max is 2.5: write a whole number from 1 to 1000"),
            (json!({ "min": "ten" }), "connection_pool_config.min is \"ten\": write a whole number from 1 to 1000"),
            (json!({ "min": 11 }), "connection_pool_config.min is 11, above max, which is 10: lower min or raise max"),
        ] {
            assert_eq!(PoolLimits::from_json(&config).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }
}
